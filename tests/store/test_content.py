"""What embeddings may hold."""

import numpy as np

from vaprompt.store.content import finite_halves


def test_of_all_half_floats_those_are_told_that_are_not_finite():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    for value in every:
        content = np.array([1.0, -1.0, value, 0.5], np.float16).tobytes()
        assert finite_halves(memoryview(content)) == bool(np.isfinite(value))


def test_nothing_is_finite_and_half_a_number_is_not():
    assert finite_halves(b"")
    assert not finite_halves(b"\x00\x3c\x00")
