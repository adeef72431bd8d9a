"""Seeds made of others, so that what is drawn in different places has nothing in common."""

from __future__ import annotations

import hashlib

BITS = 32
"""Of a seed: torch's generator on the processor, a Mersenne Twister, looks at no more, and drops the others unsaid."""


def derived_seed(*numbers: int) -> int:
    """Return a seed for what these numbers stand for, such as an epoch, a step and a part of its batch.

    Whatever is begun by it needs no random state from before, and so a training can be resumed there.
    """
    digest = hashlib.sha256(" ".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[: BITS // 8], "big")
