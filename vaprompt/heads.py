"""The head of a Ray cluster: whether anything answers at its address as a head does.

Ray itself is not asked. It tries for minutes where nothing answers, and a process whose head is gone it ends after one.
"""

from __future__ import annotations

import os
import socket
import time

from vaprompt.errors import ClusterError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How a client of HTTP/2, which is what a head speaks, begins: without settings of its own (RFC 9113, section 3.4)."""
SETTINGS = 4
"""The kind of a server's first frame, in its fourth byte."""
ANSWERS = 3.0
"""Seconds in which a head answers that is asked while it is at work."""
GONE = 30.0
"""Seconds after which a head that answers nobody is given up: it may be begun anew, and Ray gives up after 60."""


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


class Head:
    """The head of the cluster that this process is a client of."""

    def __init__(self, address: str) -> None:
        """Take the head at HOST:PORT for one that answers."""
        self._address = address
        self._silent_since: float | None = None

    @property
    def silent(self) -> bool:
        """Whether it does not answer now: what Ray asks it hangs, such as to begin an actor or to end one."""
        return silence(self._address, ANSWERS) is not None

    def answers(self) -> bool:
        """Return whether it answers now; as `silent`, but not for ever.

        Raises:
            ClusterError: it has not answered for `GONE` seconds.
        """
        now = time.monotonic()
        if not self.silent:
            self._silent_since = None
            return True
        if self._silent_since is None:
            self._silent_since = now
        if now - self._silent_since >= GONE:
            fault = f"the cluster's head at {self._address} answers no more"
            remedy = "run the same command again on a cluster that is there: it goes on with what is left"
            raise ClusterError("--engine ray", fault=fault, remedy=remedy)
        return False
