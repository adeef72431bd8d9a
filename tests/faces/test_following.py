"""Following one face as it is seen, without knowing what comes."""

import numpy as np
import pytest

from tests.faces.people import told
from vaprompt.faces.following import Follower
from vaprompt.faces.recipe import FaceRecipe

NEAR, FAR = (0.9, 0.3, 0.4, 0.2), (0.9, 0.7, 0.4, 0.15)


def followed(seen, until: float, recipe: FaceRecipe | None = None, rate: float = 10.0) -> list:
    """Return where the crop lies at each picture; `seen(time)` gives faces as (score, x, y, side)."""
    follower = Follower(recipe or FaceRecipe())
    placements = []
    for time in np.arange(round(until * rate)) / rate:
        if follower.due(float(time)):
            follower.look(float(time), told(seen(time)))
        placements.append(follower.placement(float(time)))
    return placements


def test_a_face_that_stays_is_where_it_is():
    for placement in followed(lambda time: [NEAR], 3):
        np.testing.assert_allclose(placement, [0.3, 0.4, np.log(0.2), 0], atol=1e-9)


def test_the_detector_looks_as_often_as_the_recipe_says():
    follower, looks = Follower(FaceRecipe(interval=0.5)), []
    for time in (np.arange(100) / 30).tolist():
        if follower.due(time):
            follower.look(time, told([NEAR]))
            looks.append(time)
    assert np.diff(looks) == pytest.approx(0.5, abs=1 / 30)


def test_the_crop_is_the_gaussian_mean_of_what_was_seen_and_of_nothing_that_comes():
    recipe = FaceRecipe(smoothing=0.3)

    def moving(time: float) -> list:
        return [(0.9, 0.3 + 0.05 * time, 0.4, 0.2)]

    placements = followed(moving, 3, recipe, rate=5.0)
    times = np.arange(15) / 5
    for index in range(15):
        past = times[: index + 1]
        near = past >= times[index] - 0.9 - 1e-9
        weight = np.exp(-0.5 * ((times[index] - past[near]) / 0.3) ** 2)
        assert placements[index][0] == pytest.approx(np.average(0.3 + 0.05 * past[near], weights=weight), abs=1e-9)


def test_a_blink_of_the_detector_is_bridged_and_an_absence_is_not():
    placements = followed(lambda time: [] if 1.0 <= time < 1.35 or time >= 2.0 else [NEAR], 4)
    assert all(placement is not None for placement in placements[:20])
    gone = [placement is None for placement in placements[20:]]
    assert gone[-1]
    assert gone == sorted(gone)


def test_who_is_followed_stays_until_gone_though_somebody_larger_comes():
    def seen(time: float) -> list:
        return [FAR] if time < 1 else [FAR, NEAR] if time < 2 else [NEAR]

    placements = followed(seen, 4)
    for placement in placements[:20]:
        assert placement[0] == pytest.approx(0.7)
    assert placements[-1][0] == pytest.approx(0.3)


def test_the_larger_of_two_is_taken_first_and_what_is_doubtful_is_not():
    assert followed(lambda time: [FAR, NEAR], 0.3)[0][0] == pytest.approx(0.3)
    doubtful = FaceRecipe().start - 0.01
    assert followed(lambda time: [(doubtful, 0.3, 0.4, 0.2)], 1) == [None] * 10


def test_memory_is_the_last_moments_whatever_the_length():
    follower = Follower(FaceRecipe())
    for look in range(2000):
        follower.look(look * 0.2, told([NEAR]))
    assert len(follower._track.time) < 20
