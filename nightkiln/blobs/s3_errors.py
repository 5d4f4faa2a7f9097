"""What an object store's client says, in our words: is it worth another try, what is to be done."""

from __future__ import annotations

import re
from typing import Any

from nightkiln.blobs.s3_place import S3Place

# What an answer to HEAD says that is refused: it has no body, so no reason either.
UNEXPLAINED = frozenset({"400", "403"})
GONE = frozenset({"NoSuchKey", "NoSuchUpload", "404", "NotFound"})
TAKEN = frozenset({"PreconditionFailed", "412"})
PASSING = frozenset(
    {
        "InternalError",
        "ServiceUnavailable",
        "SlowDown",
        "RequestTimeout",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "OperationAborted",
        # Two conditional writes of one key at the same moment: the one that hears this asks again.
        "ConditionalRequestConflict",
        # What was sent, or its answer, was damaged on the way.
        "BadDigest",
        "IncompleteBody",
        "XAmzContentSHA256Mismatch",
    }
)
PASSING_STATUS_MIN = 500
TOO_MANY, CONFLICT, NOT_IMPLEMENTED = 429, 409, 501
MESSAGE_CHARS_MAX = 300
HOW_TO = "docs/how-to/s3.md goes through it"
REGION = "the bucket is in another region; set AWS_REGION, or s3_region in the settings"
ADDRESS = "host, port, and http or https in s3_endpoint_url or AWS_ENDPOINT_URL"
NO_S3 = "what answers at {endpoint} is no S3 service; see " + ADDRESS
# Of TLS: no second try has another certificate, or speaks another protocol.
_UNTRUSTED, _NO_TLS = "CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER"

_FIXES = {
    "NoSuchBucket": "there is no such bucket; make it, or name another with --store",
    "AccessDenied": "the credentials may not do that; they need s3:ListBucket on the bucket, and "
    "s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on what is in it",
    "403": "the credentials may not do that, or, without s3:ListBucket, it is not there",
    "InvalidAccessKeyId": f"nobody there knows the access key; {HOW_TO}",
    "SignatureDoesNotMatch": f"the secret key is not the access key's; {HOW_TO}",
    "ExpiredToken": "the session's credentials have expired; get new ones and start again",
    "ExpiredTokenException": "the session's credentials have expired; get new ones",
    "InvalidToken": f"the session's token is not valid; {HOW_TO}",
    "RequestTimeTooSkewed": "this computer's clock is wrong by a quarter of an hour or more; set "
    "it, and give the same command again",
    "RequestExpired": "this computer's clock is wrong; set it",
    "PermanentRedirect": REGION,
    "TemporaryRedirect": REGION,
    "301": REGION,
    "AuthorizationHeaderMalformed": REGION,
    "IllegalLocationConstraintException": REGION,
    "AllAccessDisabled": "the bucket, or its account, is closed; ask whose it is",
    "AccountProblem": "something is wrong with its account; ask whose it is",
    "InvalidObjectState": "it lies in an archive; restore it, and keep such rules off the store",
    "XMinioStorageFull": "its disks are full; free some space there",
    "QuotaExceeded": "its quota is used up; raise it, and give the same command again",
    "NotImplemented": "it lacks something that a store needs, such as If-None-Match",
}


def code_of(error: BaseException | None) -> str:
    """What the service called it, however its client has wrapped that; "" if it did not answer."""
    from botocore.exceptions import ClientError

    while error is not None and not isinstance(error, ClientError):
        error = error.__cause__
    return str(error.response.get("Error", {}).get("Code", "")) if error is not None else ""


def is_passing(error: Exception) -> bool:
    """Whether the same request may well succeed a moment later."""
    from aiohttp import ClientError as TransferError
    from botocore.exceptions import (
        ClientError,
        FlexibleChecksumError,
        HTTPClientError,
        SSLError,
    )
    from botocore.exceptions import (
        ConnectionError as NoConnection,
    )
    from botocore.parsers import ResponseParserError

    if isinstance(error, SSLError):
        return not any(reason in str(error) for reason in (_UNTRUSTED, _NO_TLS))

    if isinstance(error, ClientError):
        status = _status(error.response)
        is_theirs = status >= PASSING_STATUS_MIN and status != NOT_IMPLEMENTED
        return is_theirs or status in {TOO_MANY, CONFLICT} or code_of(error) in PASSING
    passing = (
        NoConnection,
        HTTPClientError,  # a timeout, an answer that broke off
        FlexibleChecksumError,
        ResponseParserError,  # an answer that was cut, or a proxy's page
        TransferError,
        TimeoutError,
        ConnectionError,
    )
    return isinstance(error, passing)


def explained(error: Exception, place: S3Place, key: str, endpoint: str) -> str:
    """What went wrong at ``key``, and what to do."""
    from botocore.exceptions import ClientError

    where = f"{place.uri}/{key}".rstrip("/")
    code = code_of(error)
    if code:
        return f"{where}: {_FIXES.get(code, _said(error))} ({code})"
    at = endpoint or "AWS"
    if isinstance(error, ClientError):
        return f"{where}: {NO_S3.format(endpoint=at)} (HTTP {_status(error.response)})"
    return f"{where}: {_without_answer(error, at)}"


def _without_answer(error: Exception, at: str) -> str:
    """What kept a request from being answered by an S3 service, and what to do."""
    from botocore.exceptions import (
        CredentialRetrievalError,
        EndpointConnectionError,
        NoCredentialsError,
        PartialCredentialsError,
        ProfileNotFound,
        SSLError,
    )
    from botocore.parsers import ResponseParserError

    if isinstance(error, SSLError):
        return _without_tls(error, at)
    whys: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
        (
            (NoCredentialsError, PartialCredentialsError),
            f"there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; {HOW_TO}",
        ),
        ((CredentialRetrievalError,), f"{_said(error)}; log in there, and start again"),
        ((ProfileNotFound,), f"{_said(error)}; see ~/.aws/config, or set another s3_profile"),
        (
            (EndpointConnectionError,),
            f"{at} cannot be reached; see the network, and {ADDRESS}",
        ),
        ((TimeoutError,), f"{at} did not answer in time; give the same command again"),
        ((ResponseParserError,), NO_S3.format(endpoint=at)),
    )
    usual = f"{_said(error)}; give the same command again, what was made is kept"
    return next((why for kinds, why in whys if isinstance(error, kinds)), usual)


def _without_tls(error: Exception, at: str) -> str:
    if _NO_TLS in str(error):
        return f"{at} speaks no TLS; write http:// in its address, or see its port"
    if _UNTRUSTED in str(error):
        found = re.search(r"certificate verify failed: ([^(\]]*)", str(error))
        why = f" ({found[1].strip()})" if found else ""
        fix = "name a file with what to trust in AWS_CA_BUNDLE, or see the address"
        return f"the certificate of {at} is not trusted{why}; {fix}"
    return f"{_said(error)}; give the same command again, what was made is kept"


def _said(error: BaseException) -> str:
    text = str(error).strip()
    return (text or type(error).__name__)[:MESSAGE_CHARS_MAX]


def _status(response: Any) -> int:
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
