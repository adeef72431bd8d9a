"""Sizes as people write them."""

import pytest

from vaprompt.errors import OptionError
from vaprompt.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2GB", 2 * 10**9),
        ("1.5g", 1_500_000_000),
        ("500 MB", 500_000_000),
        ("64000000000", 64 * 10**9),
        ("3TB", 3 * 10**12),
    ],
)
def test_a_size_is_in_bytes(text, expected):
    assert parse_size("--memory", text) == expected


@pytest.mark.parametrize("text", ["", "much", "-2GB", "2GiB", "1e9", "nan", "0", "0.0GB", "9" * 400])
def test_what_is_none_is_one_line(text):
    with pytest.raises(OptionError, match=rf"^--memory {text}: is not a size; write for example 2GB or 500MB$"):
        parse_size("--memory", text)


def test_nothing_is_a_size_where_it_may_be():
    assert parse_size("--memory", "0", least=0) == 0
