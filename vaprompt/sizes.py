"""Sizes as people write them."""

from __future__ import annotations

import math
import re

from vaprompt.errors import OptionError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_size(name: str, text: str, *, least: int = 1) -> int:
    """Return the bytes that a size such as 2GB, 500MB or 1.5G means.

    Args:
        name: of the option or variable, as it stands before the size.
        text: the size.
        least: bytes that it must mean.

    Raises:
        OptionError: it is none.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)B?", text.strip(), re.IGNORECASE)
    size = -1.0 if found is None else float(found[1]) * UNITS[found[2].upper()]
    if not math.isfinite(size) or round(size) < least:
        raise OptionError(f"{name} {text}", fault="is not a size", remedy="write for example 2GB or 500MB")
    return round(size)
