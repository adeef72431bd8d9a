"""What went wrong with a request: whether it is a fault of the network at all, what it comes from, and if it may pass.

Each library has errors of its own. They are told by their names, as none of the libraries need be installed.
"""

from __future__ import annotations

import errno

_LASTING = (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.EREMCHG, errno.EMSGSIZE, errno.ENAMETOOLONG)
"""What s3fs makes of answers that will be the same next time, such as a malformed name."""
_GARBLED = ("BadDigest", "IncompleteBody")
"""S3's words, among those, for what did not arrive as it was sent."""
_MISLED = ("InvalidURL", "NonHttpUrlClientError", "TooManyRedirects", "ParamValidationError", "InvalidRegionError")
"""What aiohttp and botocore say where the URL, the region, or a place that the server sends us to, can be none."""
_ELSEWHERE = ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException", "301")
"""S3's words where a bucket is in another region."""


def require_fine(status: int) -> None:
    """Raise what is understood here for any answer but a plain success."""
    if status in (404, 410):
        raise FileNotFoundError
    if status in (401, 403, 407):
        raise PermissionError(f"the server answers {status}")
    if status in (408, 429) or status >= 500:
        raise OSError(errno.EBUSY, f"the server answers {status}")
    if status != 200:
        raise OSError(errno.EINVAL, f"the server answers {status}")


def is_ours(error: Exception) -> bool:
    """Say whether an error is a fault of this program, and none of the network."""
    if type(error).__module__ != "builtins" or isinstance(error, OSError) or _gcs_status(error) is not None:
        return False
    return not _is_misled(error)


def is_refusal(error: Exception) -> bool:
    """Say whether the server knows us not, or not well enough; each library has words of its own for it."""
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
        return True
    return _status(error) in (401, 403)


def lasts(error: Exception) -> bool:
    """Say whether the same will happen again, however often one asks."""
    if _is_misled(error):
        return True
    status = _status(error)
    if status is not None:
        return 400 <= status < 500 and status not in (408, 429)
    return isinstance(error, OSError) and error.errno in _LASTING and s3_code(error) not in _GARBLED


def remedy(error: Exception) -> str:
    """Return what the user can do against an error that is no refusal."""
    if _is_misled(error) or (isinstance(error, OSError) and s3_code(error) in _ELSEWHERE):
        return "check the URL, or the region (AWS_DEFAULT_REGION)"
    if lasts(error):
        return "ask whoever runs the server: it will say the same again"
    return "run the same command again later: it goes on from here"


def s3_code(error: OSError) -> str | None:
    """Return S3's own word for an error, which s3fs keeps as its cause."""
    answer = getattr(error.__cause__, "response", None)
    found = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
    return found if isinstance(found, str) else None


def _status(error: Exception) -> int | None:
    """Return the HTTP status that an error of aiohttp, gcsfs or huggingface_hub carries."""
    if _gcs_status(error) is not None:
        return _gcs_status(error)
    places = ((getattr(error, "response", None), "status_code"), (error, "status"), (error, "code"))
    found = next((getattr(place, name) for place, name in places if hasattr(place, name)), None)
    return int(found) if isinstance(found, int) or (isinstance(found, str) and found.isdigit()) else None


def _gcs_status(error: Exception) -> int | None:
    """Return the HTTP status that gcsfs has only in the words of one of Python's own errors."""
    words = {"Forbidden: ": 403, "Bad Request: ": 400}
    return next((status for begin, status in words.items() if str(error).startswith(begin)), None)


def _is_misled(error: Exception) -> bool:
    """Say whether the URL, or one that it led to, is none.

    A host that is no name is Python's own UnicodeError; s3fs follows a redirect without a region until Python stops it.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, (UnicodeError, RecursionError)) or not names.isdisjoint(_MISLED)
