"""A second thread changes when items are made, and nothing else."""

import threading
import time

import pytest

from vaprompt.media.ahead import ahead


def test_all_items_come_in_order():
    assert list(ahead(iter(range(100)), 3)) == list(range(100))


def test_never_more_than_so_many_items_wait():
    made = []

    def items():
        for number in range(20):
            made.append(number)
            yield number

    for taken, _ in enumerate(ahead(items(), 2)):
        time.sleep(0.005)
        assert len(made) <= taken + 1 + 2 + 1  # taken, waiting, and the one that is being put


def test_what_goes_wrong_in_the_thread_goes_wrong_here():
    def items():
        yield 1
        raise KeyError("inside")

    source = ahead(items())
    assert next(source) == 1
    with pytest.raises(KeyError, match="inside"):
        next(source)


def test_closing_ends_the_thread_and_closes_the_source():
    closed = threading.Event()

    def items():
        try:
            yield from range(10**9)
        finally:
            closed.set()

    source = ahead(items())
    assert next(source) == 0
    source.close()
    assert closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "ahead"]
