"""Editions are told by how many files there are, whatever the folders are called."""

import pytest

from vaprompt.datasets.editions import EDITIONS, SUBSET, UNKNOWN, recognise


def counts(train, validation, test):
    return {"train": train, "validation": validation, "test": test}


@pytest.mark.parametrize(
    ("videos", "name", "near", "complete"),
    [
        (counts(356, 76, 162), "ABAW5-ABAW10", True, True),
        (counts(356, 76, 0), "ABAW5-ABAW10", True, True),
        (counts(355, 76, 162), "ABAW5-ABAW10", True, False),
        (counts(356, 77, 162), "ABAW5-ABAW10", True, False),
        (counts(341, 71, 152), "ABAW3", True, True),
        (counts(341, 71, 0), "ABAW3", True, True),
        (counts(341, 70, 152), "ABAW3", True, False),
        (counts(20, 10, 4), SUBSET, False, False),
        (counts(356, 10, 0), SUBSET, False, False),
        (counts(1000, 76, 162), UNKNOWN, False, False),
    ],
)
def test_an_edition_is_told_by_its_counts(videos, name, near, complete):
    found = recognise(videos)
    assert (found.name, found.near, found.complete) == (name, near, complete)


def test_the_official_counts_are_those_of_the_table():
    latest = EDITIONS[0].splits
    assert [(each.videos, each.sides, each.frames, each.invalid) for each in latest.values()] == [
        (356, 9, 1_682_057, 2_200),
        (76, 5, 383_814, 1_793),
        (162, 15, 927_210, None),
    ]
    assert (EDITIONS[1].splits["validation"].videos, EDITIONS[1].splits["test"].videos) == (71, 152)
