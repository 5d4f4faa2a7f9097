"""ComfyUI in this container: starts it, asks it whether it lives, has it render one prompt.

Speaks plain HTTP on loopback and gives back plain values. What an answer means, and whose fault a
failure is, the caller knows; here only what is needed to wait and to fetch.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workers.modal_bringing import bring
from workers.modal_plan import Plan

COMFY = Path("/opt/ComfyUI")
VOLUME = Path(os.environ.get("NK_VOLUME", "/models"))  # where models are mounted
PORT = 8188
ANSWER_S_MAX = 20.0
HEALTH_S_MAX = 5.0
STOP_S_MAX = 10.0
START_POLL_S = 0.25
POLL_S_MIN, POLL_S_MAX = 0.02, 0.5
QUEUE_CHECK_S = 2.0
ANSWER_BYTES_MAX = 16 * 1024 * 1024  # of whatever is no file
BAD_REQUEST = 400

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # nothing leaves loopback


class Broken(Exception):
    """This container will not render any more."""


class Expired(Exception):
    """Nobody waits for the result any more."""


class TooLarge(Exception):
    """The files are more than the caller takes."""


class Server:
    """One ComfyUI: our own child, or with an address (``COMFYUI_URL``) one that runs already."""

    def __init__(
        self,
        plan: Plan,
        url: str | None = None,
        *,
        home: Path = COMFY,
        volume: Path = VOLUME,
        port: int = PORT,
    ) -> None:
        self._plan, self._home, self._volume, self._port = plan, home, volume, port
        self._process: subprocess.Popen[bytes] | None = None
        self.url = (url if url is not None else os.environ.get("COMFYUI_URL", "")).rstrip("/")

    def start(self) -> None:
        """Return once it truly answers.

        Raises:
            Broken: it does not, or a model is missing.
        """
        deadline_s = time.monotonic() + self._plan.startup_timeout_s * 0.9
        if not self.url:
            self._link_models()
            command = ["python", "main.py", "--listen", "127.0.0.1", "--port", str(self._port)]
            command += ["--disable-auto-launch"]
            try:
                self._process = subprocess.Popen(command, cwd=self._home)
            except OSError as error:
                raise Broken(f"ComfyUI cannot be started: {error}") from error
            self.url = f"http://127.0.0.1:{self._port}"
        while True:
            try:
                self.stats()
            except Broken:
                is_dead = self._process is not None and self._process.poll() is not None
                if is_dead or time.monotonic() >= deadline_s:
                    raise
                time.sleep(START_POLL_S)
            else:
                return

    def stop(self) -> None:
        """End our own child."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def stats(self) -> dict[str, Any]:
        """What ``/system_stats`` says.

        Raises:
            Broken: no answer, or not that of a ComfyUI.
        """
        if self._process is not None and self._process.poll() is not None:
            raise Broken(f"ComfyUI ended with status {self._process.returncode}")
        answer = self._json("GET", "/system_stats", timeout_s=HEALTH_S_MAX)
        if not isinstance(answer, dict) or "system" not in answer:
            raise Broken("ComfyUI answers, but not as one")
        return answer

    def render(self, request: dict[str, Any]) -> dict[str, Any]:
        """Render one prompt: what its history says and its files, or how it was refused.

        Raises:
            Broken, Expired, TooLarge: there is no result.
        """
        prompt_id = str(uuid.uuid4())  # a second run of the same input is another prompt
        graph = self._graph(request, prompt_id)
        status, answer = self._ask("POST", "/prompt", {"prompt": graph, "prompt_id": prompt_id})
        if status == BAD_REQUEST or (isinstance(answer, dict) and answer.get("node_errors")):
            return {"rejection": answer}
        if status > BAD_REQUEST:
            raise Broken(f"ComfyUI answered POST /prompt with HTTP {status}")
        try:
            entry = self._wait(prompt_id, request["expires_at"])
        except BaseException:  # also when the caller cancels: the GPU is somebody else's next
            self._forget(prompt_id)
            raise
        entry.pop("prompt", None)
        files = list(self._files(entry, request["result_bytes_max"]))
        self._json("POST", "/history", {"delete": [prompt_id]})
        brought = bring(files, request.get("forms", ()), until_s=request["expires_at"])
        return {"entry": entry, "files": brought}

    def _graph(self, request: dict[str, Any], prompt_id: str) -> dict[str, Any]:
        """The graph, with input files under the names that ComfyUI gave them."""
        graph: dict[str, Any] = request["graph"]
        for file in request["files"]:
            name = self._upload(file)
            for node, key in file["targets"]:
                graph[node]["inputs"][key] = name
        for node in graph.values():
            if "filename_prefix" in node.get("inputs", {}):
                node["inputs"]["filename_prefix"] = f"nightkiln/{prompt_id}"
        return graph

    def _upload(self, file: dict[str, Any]) -> str:
        boundary = uuid.uuid4().hex
        name = file["sha256"] + file["suffix"]
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="subfolder"\r\n\r\nnightkiln\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + file["content"] + f"\r\n--{boundary}--\r\n".encode()
        kind = f"multipart/form-data; boundary={boundary}"
        answer = self._json("POST", "/upload/image", body, kind=kind)
        if not isinstance(answer, dict) or not isinstance(answer.get("name"), str):
            raise Broken("ComfyUI took no input file")
        folder = answer.get("subfolder")
        return f"{folder}/{answer['name']}" if folder else str(answer["name"])

    def _wait(self, prompt_id: str, expires_at: float) -> dict[str, Any]:
        pause_s, checked_s = POLL_S_MIN, time.monotonic()
        while True:
            answer = self._json("GET", f"/history/{prompt_id}")
            if isinstance(answer, dict) and isinstance(answer.get(prompt_id), dict):
                entry: dict[str, Any] = answer[prompt_id]
                return entry
            if time.time() >= expires_at:
                raise Expired
            if time.monotonic() - checked_s >= QUEUE_CHECK_S:
                checked_s = time.monotonic()
                self._see_queued(prompt_id)
            time.sleep(pause_s)
            pause_s = min(POLL_S_MAX, pause_s * 1.2)

    def _see_queued(self, prompt_id: str) -> None:
        queue = self._json("GET", "/queue")
        items = [item for key in ("queue_running", "queue_pending") for item in queue.get(key, ())]
        if any(prompt_id in item for item in items):
            return
        if prompt_id not in self._json("GET", f"/history/{prompt_id}"):
            raise Broken("ComfyUI has forgotten a prompt: it was restarted")

    def _forget(self, prompt_id: str) -> None:
        try:
            self._json("POST", "/queue", {"delete": [prompt_id]})
            self._json("POST", "/interrupt", {"prompt_id": prompt_id})
        except Broken:
            return  # then there is nothing left that could go on rendering

    def _files(self, entry: dict[str, Any], bytes_max: int) -> Iterator[dict[str, Any]]:
        """Every file that was saved, or where none was, previews; all together within bounds."""
        named = [
            file
            for values in entry.get("outputs", {}).values()
            for items in values.values()
            if isinstance(items, list)
            for file in items
            if isinstance(file, dict) and file.get("filename") and file.get("type")
        ]
        saved = [file for file in named if file["type"] == "output"]
        left = bytes_max
        for file in saved or named:
            names = {key: str(file.get(key) or "") for key in ("filename", "subfolder", "type")}
            view = "/view?" + urllib.parse.urlencode(names)
            status, content = self._exchange("GET", view, bytes_max=left)
            left -= len(content)
            yield {**names, "content": content if status < BAD_REQUEST else None}

    def _json(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        status, answer = self._ask(method, path, body, **options)
        if status >= BAD_REQUEST:
            raise Broken(f"ComfyUI answered {method} {path.partition('?')[0]} with HTTP {status}")
        return answer

    def _ask(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        try:
            status, content = self._exchange(method, path, body, **options)
            return status, json.loads(content) if content else {}
        except (ValueError, RecursionError) as error:
            raise Broken(f"ComfyUI answered {method} {path} with no JSON") from error
        except TooLarge:
            raise Broken(f"ComfyUI answered {method} {path} at great length") from None

    def _exchange(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        kind: str = "application/json",
        timeout_s: float = ANSWER_S_MAX,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> tuple[int, bytes]:
        """Status and body.

        Raises:
            Broken: there is no whole answer.
            TooLarge: it is more than that.
        """
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - loopback
            self.url + path, data=data, method=method, headers={"content-type": kind}
        )
        try:
            try:
                with _OPENER.open(request, timeout=timeout_s) as reply:
                    status, content = reply.status, reply.read(bytes_max + 1)
            except urllib.error.HTTPError as error:
                with error:
                    status, content = error.code, error.read(bytes_max + 1)
        except (OSError, http.client.HTTPException) as error:  # also half of an answer, or none
            raise Broken(f"ComfyUI does not answer: {error!r}") from error
        if len(content) > bytes_max:
            raise TooLarge
        return status, content

    def _link_models(self) -> None:
        for model in self._plan.models:
            source, link = self._volume / model.place, self._home / "models" / model.path
            if not source.is_file():
                raise Broken(f"{model.path} is not in the volume: run nightkiln modal deploy")
            try:
                link.parent.mkdir(parents=True, exist_ok=True)
                link.unlink(missing_ok=True)
                link.symlink_to(source)
            except OSError as error:
                raise Broken(f"{model.path} cannot have its place: {error}") from error
