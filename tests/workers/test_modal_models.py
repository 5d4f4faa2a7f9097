"""Filling the volume: a file has its name only when it is what the catalog says."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from workers.modal_models import Unfit, fill
from workers.modal_plan import place_of

WEIGHTS = b"weights" * 1000
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


@contextmanager
def a_host(*answers: int) -> Iterator[str]:
    """A model host that answers so, then with the file; its address."""
    left = list(answers)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = left.pop(0) if left else 200
            self.send_response(status)
            length = len(WEIGHTS) if status == 200 else 0
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if status == 200:
                self.wfile.write(WEIGHTS)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/weights"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def model(address: str, sha256: str | None = DIGEST) -> dict[str, Any]:
    return {
        "path": "checkpoints/x.safetensors",
        "sha256": sha256,
        "url": "https://example.org/x",
        "address": address,
    }


def stored(root: Path, sha256: str | None = DIGEST) -> Path:
    return root / place_of("checkpoints/x.safetensors", sha256, "https://example.org/x")


@pytest.mark.parametrize("sha256", [DIGEST, None])
def test_a_model_is_stored_by_what_it_is(tmp_path: Path, sha256: str | None) -> None:
    with a_host() as address:
        assert fill(tmp_path, [model(address, sha256)]) == ["checkpoints/x.safetensors"]

    assert stored(tmp_path, sha256).read_bytes() == WEIGHTS


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    with a_host() as address:
        fill(tmp_path, [model(address)])

    assert fill(tmp_path, [model("http://127.0.0.1:1/gone")]) == []


def test_a_file_with_another_checksum_is_refused_and_not_kept(tmp_path: Path) -> None:
    with a_host() as address, pytest.raises(Unfit, match="not that of the catalog"):
        fill(tmp_path, [model(address, "0" * 64)])

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_host_in_trouble_is_asked_again(tmp_path: Path) -> None:
    with a_host(503, 429) as address:
        fill(tmp_path, [model(address)], pause_s=0.0)

    assert stored(tmp_path).is_file()


def test_a_host_that_refuses_is_not_asked_again_and_its_address_is_not_told(tmp_path: Path) -> None:
    with a_host(403) as address, pytest.raises(Unfit, match="HTTP 403") as error:
        fill(tmp_path, [model(f"{address}?signature=secret")])

    assert "secret" not in str(error.value)


def test_a_host_that_stays_away_is_given_up(tmp_path: Path) -> None:
    with a_host(*[503] * 6) as address, pytest.raises(Unfit, match="6 tries"):
        fill(tmp_path, [model(address)], pause_s=0.0)
