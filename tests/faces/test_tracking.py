"""Who is who: people that move, meet, leave and come back, written down as what a detector would say of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faces.people import told
from vaprompt.faces.crop import TEMPLATE_P
from vaprompt.faces.detector import Faces
from vaprompt.faces.recipe import FaceRecipe
from vaprompt.faces.tracking import Person, Tracker

RATE = 25.0
EVERY = 5


def follow(seen, seconds: float, recipe: FaceRecipe | None = None, rate: float = RATE) -> list[Person]:
    """Return the people for `seen(time)`: faces as (score, x, y, side), five looks a second."""
    tracker = Tracker(recipe or FaceRecipe())
    time_F = np.arange(round(seconds * rate)) / rate
    for index in range(0, len(time_F), EVERY):
        time = float(time_F[index])
        tracker.look(index, time, told(seen(time)))
    return tracker.people(time_F)


def test_a_face_that_stays_is_one_person_in_every_frame():
    (person,) = follow(lambda time: [(0.9, 0.5, 0.4, 0.2)], 4.2)
    assert person.visible(105).all()
    np.testing.assert_allclose(person.placement(1.23), [0.5, 0.4, np.log(0.2), 0], atol=1e-9)


def test_a_face_that_leaves_is_gone_from_then_on():
    (person,) = follow(lambda time: [(0.9, 0.5, 0.4, 0.2)] if time < 2.1 else [], 5.0)
    assert np.flatnonzero(person.visible(125)).tolist() == list(range(51))


def test_a_missed_look_is_bridged_and_a_long_absence_is_not():
    (person,) = follow(lambda time: [] if 1.0 < time < 1.3 or 2.0 < time < 4.0 else [(0.9, 0.5, 0.4, 0.2)], 6.0)
    visible_F = person.visible(150)
    assert visible_F[:51].all()
    assert not visible_F[51:100].any()
    assert visible_F[100:].all()


def test_who_comes_back_after_the_patience_is_somebody_else():
    people = follow(lambda time: [] if 1.9 < time < 8 else [(0.9, 0.5, 0.4, 0.2)], 10.0)
    assert [person.first_S.tolist() for person in people] == [[200], [0]]


def test_two_people_who_stay_apart_keep_their_crops_and_the_larger_comes_first():
    people = follow(
        lambda time: [(0.9, 0.2 + 0.02 * time, 0.4, 0.15), (0.8, 0.8 - 0.02 * time, 0.4, 0.2)][:: (-1) ** int(time)],
        5.0,
    )
    assert [round(float(np.exp(person.placement(2.0)[2])), 3) for person in people] == [0.2, 0.15]
    np.testing.assert_allclose(people[0].placement(2.0)[0], 0.76, atol=1e-6)
    np.testing.assert_allclose(people[1].placement(2.0)[0], 0.24, atol=1e-6)


def test_an_uncertain_face_continues_a_track_and_begins_none():
    (person,) = follow(lambda time: [(0.9 if time < 0.1 else 0.35, 0.5, 0.4, 0.2), (0.4, 0.1, 0.1, 0.1)], 4.0)
    assert person.visible(100).all()
    np.testing.assert_allclose(person.placement(2.0)[:2], [0.5, 0.4])


def test_a_flash_is_nobody():
    people = follow(lambda time: [(0.9, 0.5, 0.4, 0.2), *([(0.9, 0.1, 0.1, 0.1)] if 1.0 < time < 1.3 else [])], 4.0)
    assert len(people) == 1


def test_a_face_that_moves_by_more_than_itself_is_looked_for_where_it_is_going():
    (person,) = follow(lambda time: [(0.9, 0.05 + 0.25 * time**2, 0.4, 0.12)], 1.8)
    assert person.visible(45).all()


@settings(max_examples=25)
@given(st.floats(6, 60), st.floats(0, 0.03), st.integers(0, 2**16))
def test_the_crop_follows_a_moving_face_without_lag_and_steadies_a_shaking_one(rate, shake, seed):
    generator = np.random.default_rng(seed)
    moving = lambda time: 0.3 + 0.05 * time  # noqa: E731
    (person,) = follow(lambda time: [(0.9, moving(time) + generator.uniform(-shake, shake), 0.4, 0.3)], 6.0, rate=rate)
    error = [person.placement(time)[0] - moving(time) for time in np.linspace(0, 5, 50)]
    assert np.abs(error).max() <= shake + 0.01
    assert shake or np.abs(error).max() < 1e-6


def test_a_turn_of_the_head_through_180_degrees_does_not_spin_the_crop():
    tracker = Tracker(FaceRecipe(smoothing=0.5))
    time_F = np.arange(50) / 25
    for index in range(0, 50, 5):
        angle = np.pi - 0.1 + 0.02 * index / 5
        point_P = 0.5 + 0.5j + np.exp(1j * angle) * (TEMPLATE_P - 56 * (1 + 1j)) / 112 * 0.2
        landmark = np.stack((point_P.real, point_P.imag), 1)[None]
        tracker.look(index, time_F[index], Faces(np.array([0.9]), np.array([[0.4, 0.4, 0.6, 0.6]]), landmark))
    (person,) = tracker.people(time_F)
    turned = np.array([person.placement(time)[3] for time in time_F[:46]])
    assert np.abs(np.diff(turned)).max() < 0.02
    assert turned[0] == pytest.approx(np.pi - 0.1)
