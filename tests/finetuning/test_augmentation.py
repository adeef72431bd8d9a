"""Augmentation: the same for all pictures of a window, drawn from its seed alone, within what the recipe allows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vaprompt.finetuning.augmentation import draw
from vaprompt.finetuning.recipe import AugmentationRecipe

ALL = AugmentationRecipe(flip=0.5, crop=0.3, brightness=0.4, gain=6, time_mask=20, band_mask=8)
SIDE = 32


def pictures(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def test_nothing_is_drawn_where_nothing_is_wanted():
    assert draw(AugmentationRecipe(), 1, 2, 3) is None


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31))
def test_all_pictures_of_a_window_are_changed_alike(seed):
    """A window that shows the same picture three times shows one changed picture three times."""
    still = np.repeat(pictures(1), 3, axis=0)
    changed = draw(ALL, seed).pictures(still)
    assert changed.shape == still.shape
    assert changed.dtype == np.uint8
    assert (changed == changed[:1]).all()


@settings(max_examples=30)
@given(seed=st.integers(0, 2**31))
def test_the_same_seed_is_the_same_change_and_another_is_another(seed):
    assert draw(ALL, seed, 1) == draw(ALL, seed, 1)
    assert draw(ALL, seed, 1) != draw(ALL, seed, 2)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**31))
def test_changes_stay_within_the_recipe(seed):
    drawn = draw(ALL, seed)
    assert 0.7 <= drawn.side <= 1
    assert 0.6 <= drawn.brightness <= 1.4
    assert abs(20 * np.log10(drawn.gain)) <= 6 + 1e-9
    mel = np.ones((100, 40), np.float32)
    masked = drawn.spectrogram(mel)
    assert (mel == 1).all(), "the window itself is left"
    blank_F, blank_M = (masked == 0).all(axis=1), (masked == 0).all(axis=0)
    assert blank_F.sum() <= 20
    assert blank_M.sum() <= 8
    for blank in (blank_F, blank_M):
        assert np.flatnonzero(np.diff(blank.astype(int))).size <= 2, "one stretch"


@pytest.mark.parametrize(
    ("field", "value"),
    [("flip", 1.0), ("crop", 0.4), ("brightness", 0.5)],
)
def test_each_field_changes_pictures_by_itself(field, value):
    given = pictures()
    changed = [draw(AugmentationRecipe(**{field: value}), seed).pictures(given) for seed in range(5)]
    assert any((one != given).any() for one in changed)
    if field == "flip":
        np.testing.assert_array_equal(changed[0], given[:, :, ::-1])
    sound = np.ones(5, np.float32)
    assert draw(AugmentationRecipe(**{field: value}), 0).sound(sound) is sound


def test_a_field_leaves_what_the_others_draw():
    alone, together = draw(AugmentationRecipe(crop=0.3), 5), draw(ALL, 5)
    assert (alone.side, alone.top, alone.left) == (together.side, together.top, together.left)


def test_louder_is_a_factor_on_the_sound():
    sound = np.linspace(-1, 1, 9, dtype=np.float32)
    drawn = draw(AugmentationRecipe(gain=12), 3)
    np.testing.assert_allclose(drawn.sound(sound), sound * drawn.gain, rtol=1e-6)
    assert drawn.gain != 1
