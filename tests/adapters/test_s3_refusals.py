"""What keeps a store in S3 from being reached is told at once, with what to do, and no secret."""

from __future__ import annotations

import logging
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fsspec.asyn import sync
from typer.testing import CliRunner

from nightkiln import cli
from nightkiln.blobs.s3 import S3Blobs
from nightkiln.blobs.s3_client import S3Limits
from nightkiln.blobs.s3_place import S3Access, S3Place
from nightkiln.core.errors import BadInput, ClaimLost, NightkilnError, StoreUnusable
from nightkiln.store.claim import Claim
from nightkiln.store.claims import STALE_S
from nightkiln.store.commit import create_or_same
from nightkiln.store.store import Store
from nightkiln.testing.environ import environ
from nightkiln.testing.s3_proxy import Fault, S3Proxy, Way, s3_proxy
from nightkiln.testing.s3_server import BUCKET, S3Server

ONCE = S3Limits(tries=1, answer_s=5.0)
NEVER_TOLD = "s3cr3t-t0-be-kept"
KNOWN = S3Access(access_key_id="key", secret_access_key=NEVER_TOLD, session_token=NEVER_TOLD)
DAY_S = 24 * 3600.0


class Page(BaseHTTPRequestHandler):
    """Some web server, such as the console beside an S3 service."""

    status = 200

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        page = b"<html>Welcome</html>"
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    do_PUT = do_GET  # noqa: N815 - as above

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class NotFound(Page):
    """One that has never heard of a bucket."""

    status = 404


@contextmanager
def web_server(handler: type[Page], certificate: Path | None = None) -> Iterator[str]:
    """Where it answers, as host and port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """One that nobody has signed."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    made = made.public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = tmp_path / "certificate.pem"
    signed = made.sign(key, hashes.SHA256())
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


def refusal(url: str, limits: S3Limits = ONCE) -> str:
    """What is said of a store at ``url``."""
    blobs = S3Blobs(S3Place(BUCKET, "x"), replace(KNOWN, endpoint_url=url), limits=limits)
    with pytest.raises(StoreUnusable) as refused:
        blobs.get("nightkiln-store.json")
    assert NEVER_TOLD not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("handler", [Page, NotFound])
def test_a_web_server_that_is_no_s3_service_is_told_as_that(handler: type[Page]) -> None:
    with web_server(handler) as address:
        assert f"http://{address} is no S3 service; see host, port" in refusal(f"http://{address}")


def test_http_where_tls_is_spoken_and_the_reverse_is_told(certificate: Path) -> None:
    with web_server(Page) as address:
        assert "speaks no TLS; write http://" in refusal(f"https://{address}", S3Limits())
    with web_server(Page, certificate) as address:
        assert "http or https" in refusal(f"http://{address}")


def test_a_certificate_that_is_not_trusted_is_told_at_once_and_not_tried_again(
    certificate: Path,
) -> None:
    with web_server(Page, certificate) as address:
        told = refusal(f"https://{address}", S3Limits())

    assert f"certificate of https://{address} is not trusted (self-signed certificate)" in told
    assert "AWS_CA_BUNDLE" in told


def test_nobody_at_an_address_is_told_with_where_it_was_set() -> None:
    with web_server(Page) as gone:
        url = f"http://{gone}"

    assert f"{url} cannot be reached; see the network, and host, port" in refusal(url)


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
@pytest.mark.parametrize("url", [f"http://key:{NEVER_TOLD}@host", "localhost:8333", "ftp://host"])
def test_an_address_in_the_environment_is_looked_at_and_not_shown(
    variable: str, url: str, tmp_path: Path
) -> None:
    with environ({variable: url}), pytest.raises(BadInput, match=variable) as refused:
        Store.open(f"s3://{BUCKET}/x", state=tmp_path)

    assert "https://host:port" in str(refused.value)
    assert NEVER_TOLD not in str(refused.value)


@pytest.mark.parametrize(
    ("set_to", "access", "region"),
    [
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, KNOWN, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-2"}, KNOWN, "eu-west-2"),
        ({"AWS_REGION": "eu-west-1"}, replace(KNOWN, region="eu-west-3"), "eu-west-3"),
    ],
)
def test_the_region_is_that_of_the_settings_else_of_the_environment(
    set_to: dict[str, str], access: S3Access, region: str
) -> None:
    async def found() -> str:
        return str((await files.set_session()).meta.region_name)

    with environ(set_to):
        files = access.file_system()
        assert sync(files.loop, found) == region


def test_not_even_a_log_of_everything_holds_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with web_server(NotFound) as address:
        refusal(f"http://{address}")

    assert "Welcome" not in caplog.text
    assert NEVER_TOLD not in caplog.text


# With a real server behind a proxy.


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[S3Proxy]:
    with s3_proxy(s3) as running:
        yield running


@pytest.mark.s3
@pytest.mark.parametrize("clock_s", [-DAY_S, DAY_S], ids=["ahead", "behind"])
def test_a_clock_that_is_wrong_is_told_by_whatever_is_asked(
    clock_s: float, s3: S3Server, proxy: S3Proxy
) -> None:
    access = replace(s3.access, endpoint_url=proxy.url)
    blobs = S3Blobs(S3Place(BUCKET, uuid.uuid4().hex), access)
    blobs.put("there", b"1")

    proxy.clock_s = clock_s

    for asked in (blobs.get, blobs.size, lambda key: blobs.create(key, b""), blobs.remove):
        with pytest.raises(StoreUnusable, match="this computer's clock is wrong"):
            asked("there")


@pytest.mark.s3
async def test_whose_clock_jumps_loses_his_batch_is_told_why_and_commits_nothing_more(
    s3: S3Server, proxy: S3Proxy
) -> None:
    now_s = 1_770_000_000.0

    def clock() -> float:
        nonlocal now_s
        now_s += STALE_S / 3
        return now_s

    place = S3Place(BUCKET, uuid.uuid4().hex)
    behind = S3Blobs(place, replace(s3.access, endpoint_url=proxy.url), limits=ONCE)
    well = S3Blobs(place, s3.access)

    async def work() -> None:
        async with Claim(behind, "night", clock=clock, heartbeat_s=0) as claim:
            create_or_same(behind, "results/dt=2026-02-02/first", b"rows")
            proxy.clock_s = DAY_S
            assert "clock is wrong" in str(await claim.lost())
            with pytest.raises(ClaimLost):
                await claim.still_mine()
            with pytest.raises(StoreUnusable, match="clock is wrong"):
                create_or_same(behind, "results/dt=2026-02-02/second", b"rows")

    with pytest.raises(StoreUnusable, match="clock is wrong"):  # nor can he say that it is over
        await work()

    async with Claim(well, "night", clock=lambda: now_s + 2 * STALE_S) as other:
        assert (other.epoch, list(well.list("results/"))) == (2, ["results/dt=2026-02-02/first"])


@pytest.mark.s3
def test_doctor_refuses_a_server_that_ignores_conditions(
    s3: S3Server, proxy: S3Proxy, tmp_path: Path
) -> None:
    environment = {
        **s3.environment,
        "AWS_ENDPOINT_URL": proxy.url,
        "NIGHTKILN_STATE": str(tmp_path),
    }
    proxy.faults.append(Fault(Way.OVERWRITES, "PUT", times=1_000))
    words = ["doctor", "--store", f"s3://{BUCKET}/{uuid.uuid4().hex}"]

    ill = CliRunner().invoke(cli.app, words, env=environment)
    proxy.faults.clear()
    well = CliRunner().invoke(cli.app, [*words[:2], words[2] + "-2"], env=environment)

    assert (ill.exit_code, well.exit_code) == (2, 0)
    assert "ignores 'If-None-Match: *'" in ill.stdout
    assert "what is created is created once" in well.stdout


@pytest.mark.s3
def test_without_a_bucket_or_the_right_to_it_no_store_is_made(
    s3: S3Server, proxy: S3Proxy, tmp_path: Path
) -> None:
    access = replace(s3.access, endpoint_url=proxy.url)
    uri = f"s3://{BUCKET}/{uuid.uuid4().hex}"

    with pytest.raises(NightkilnError, match="there is no such bucket; make it"):
        Store.open("s3://not-there/x", create=True, s3=access, state=tmp_path)
    proxy.faults.append(Fault(Way.FORBIDDEN, "PUT"))
    with pytest.raises(NightkilnError, match=r"may not do that; they need.*s3:PutObject"):
        Store.open(uri, create=True, s3=access, state=tmp_path)
    with pytest.raises(NightkilnError, match="there is no store"):
        Store.open(uri, s3=access, state=tmp_path)


@pytest.mark.s3
def test_what_head_is_refused_without_a_word_is_asked_for_once_more(
    s3: S3Server, proxy: S3Proxy
) -> None:
    access = replace(s3.access, endpoint_url=proxy.url)
    blobs = S3Blobs(S3Place(BUCKET, uuid.uuid4().hex), access)
    proxy.faults.append(Fault(Way.FORBIDDEN, times=2))

    with pytest.raises(StoreUnusable, match=r"they need s3:ListBucket.*\(AccessDenied\)"):
        blobs.size("there")


@pytest.mark.s3
def test_what_others_have_put_into_the_bucket_is_none_of_the_stores(s3: S3Server) -> None:
    prefix = uuid.uuid4().hex
    blobs = S3Blobs(S3Place(BUCKET, prefix), s3.access)
    blobs.put("images/a.png", b"1")
    files = s3.access.file_system()
    for name in (".DS_Store", "images/holiday (1).png", "images/"):
        files.pipe_file(f"{BUCKET}/{prefix}/{name}", b"x")

    assert list(blobs.list("")) == ["images/a.png"]
