"""Where files are kept: a local folder or an object store, behind the same verbs."""

from nightkiln.blobs.keys import KEY_CHARS_MAX, check_key
from nightkiln.blobs.local import TEMPORARY, TEMPORARY_AGE_S_MAX, LocalBlobs

__all__ = ["KEY_CHARS_MAX", "TEMPORARY", "TEMPORARY_AGE_S_MAX", "LocalBlobs", "check_key"]
