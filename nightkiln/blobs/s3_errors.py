"""What an object store's client says, in our words: is it worth another try, what is to be done."""

from __future__ import annotations

from typing import Any

from nightkiln.blobs.s3_place import S3Place

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
    "RequestTimeTooSkewed": "this computer's clock is wrong; set it",
    "PermanentRedirect": "the bucket is in another region; set AWS_REGION",
    "301": "the bucket is in another region; set AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set AWS_REGION",
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
    )
    from botocore.exceptions import (
        ConnectionError as NoConnection,
    )
    from botocore.parsers import ResponseParserError

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
    from botocore.exceptions import (
        EndpointConnectionError,
        NoCredentialsError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    where = f"{place.uri}/{key}".rstrip("/")
    code = code_of(error)
    if code:
        return f"{where}: {_FIXES.get(code, _said(error))} ({code})"
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        what = "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        return f"{where}: {what}; {HOW_TO}"
    if isinstance(error, ProfileNotFound):
        return f"{where}: {_said(error)}; see ~/.aws/config, or set another s3_profile"
    if isinstance(error, EndpointConnectionError):
        what = f"{endpoint or 'AWS'} cannot be reached"
        return f"{where}: {what}; see the network, and s3_endpoint_url in the settings"
    if isinstance(error, TimeoutError):
        return f"{where}: {endpoint or 'AWS'} did not answer in time; give the same command again"
    return f"{where}: {_said(error)}; give the same command again, what was made is kept"


def _said(error: BaseException) -> str:
    text = str(error).strip()
    return (text or type(error).__name__)[:MESSAGE_CHARS_MAX]


def _status(response: Any) -> int:
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
