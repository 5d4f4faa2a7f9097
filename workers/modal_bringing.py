"""Posts what a container has made to an object store, with forms that came along with the call.

A form is a secret: nothing of it, and nothing that the store answers, is printed or given back. A
file that the store does not take goes with the reply, as all of them do where no form came.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

CHECKSUM = "x-amz-checksum-sha256"
TAKEN = frozenset({200, 201, 204})
POST_S_MIN = 20.0  # for a small file
POST_BYTES_PER_S_MIN = 1_000_000.0  # slower than that, it counts as stuck: the GPU is billed on


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An answer from elsewhere would be none of the store's."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect())


def bring(
    files: Iterable[dict[str, Any]], forms: Sequence[dict[str, Any]], *, until_s: float
) -> list[dict[str, Any]]:
    """The files as they are given back: those that were posted without their content."""
    return [
        _brought(file, number, forms[number], until_s) if number < len(forms) else file
        for number, file in enumerate(files)
    ]


def _brought(
    file: dict[str, Any], number: int, form: dict[str, Any], until_s: float
) -> dict[str, Any]:
    content: bytes | None = file["content"]
    if not content:
        return file
    sha256 = hashlib.sha256(content)
    within_s = POST_S_MIN + len(content) / POST_BYTES_PER_S_MIN
    why_not = _posted(form, content, sha256.digest(), min(within_s, until_s - time.time()))
    if why_not:
        return {**file, "not_posted": why_not}
    posted = {"number": number, "size": len(content), "sha256": sha256.hexdigest()}
    return {**file, "content": None, "posted": posted}


def _posted(form: dict[str, Any], content: bytes, digest: bytes, within_s: float) -> str:
    """Why the store has not taken it; empty: it has."""
    if within_s <= 0:
        return "it was too late"
    border = uuid.uuid4().hex
    fields = {**form["fields"], CHECKSUM: base64.b64encode(digest).decode()}
    head = "".join(
        f'--{border}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    head += f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n\r\n'
    request = urllib.request.Request(  # noqa: S310 - our own caller's
        form["url"],
        data=head.encode() + content + f"\r\n--{border}--\r\n".encode(),
        method="POST",
        headers={"content-type": f"multipart/form-data; boundary={border}"},
    )
    try:
        with _OPENER.open(request, timeout=within_s) as answer:
            status: int = answer.status
    except urllib.error.HTTPError as error:
        with error:
            status = error.code
    except (OSError, http.client.HTTPException, ValueError) as error:
        return type(error).__name__  # not its words: they could hold the address
    return "" if status in TAKEN else f"the store answered HTTP {status}"
