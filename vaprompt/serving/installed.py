"""Whether what the server stands on is installed: an optional part of the program."""

from __future__ import annotations

from importlib import metadata

from vaprompt.errors import VapromptError

NEEDED = ("fastapi", "uvicorn", "websockets")
INSTALL = "pip install 'vaprompt[serve]'"


def missing() -> str | None:
    """Return why there can be no server here, in a few words; None where there can."""
    lacking = []
    for name in NEEDED:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            lacking.append(name)
    return f"the server's parts are not installed ({', '.join(lacking)} missing)" if lacking else None


def require_installed() -> None:
    """Refuse to go on without them.

    Raises:
        VapromptError: they are not installed.
    """
    reason = missing()
    if reason is not None:
        raise VapromptError(None, fault=reason, remedy=INSTALL)
