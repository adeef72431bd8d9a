"""The head of a Ray cluster: whether anything answers at its address as a head does.

Ray itself is not asked: it tries for minutes where nothing answers.
"""

from __future__ import annotations

import os
import socket

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How a client of HTTP/2, which is what a head speaks, begins: without settings of its own (RFC 9113, section 3.4)."""
SETTINGS = 4
"""The kind of a server's first frame, in its fourth byte."""


def silence(address: str, seconds: float) -> str | None:
    """Return why nothing answers at an address as a head does, or None if it does.

    Args:
        address: HOST:PORT.
        seconds: how long to wait for its answer.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=seconds) as connection:
            if os.environ.get("RAY_USE_TLS", "").lower() in ("1", "true"):
                return None  # who speaks first there shows a certificate, which only Ray has
            connection.sendall(PREFACE)
            answer = connection.recv(64)
    except (OSError, ValueError) as error:  # the latter of what can be no host's name
        return getattr(error, "strerror", None) or str(error)
    return None if answer[3:4] == bytes([SETTINGS]) else "what listens is no Ray cluster"
