"""The grid of regions, soft labels against the formula, and prototypes against theirs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaprompt.errors import RecipeError, StoreError
from vaprompt.recipes import validated
from vaprompt.regions import PHRASES, RegionRecipe, prototypes, soft_labels

coordinate = st.floats(-1, 1, allow_nan=False)


@given(coordinate, coordinate, st.floats(0.05, 3))
def test_soft_labels_are_the_gaussian_of_the_distance(valence, arousal, sigma):
    grid = (-0.66, 0.0, 0.66)
    weights = [np.exp(-((valence - v) ** 2 + (arousal - a) ** 2) / (2 * sigma**2) + 400) for v in grid for a in grid]
    if sum(weights) == 0 or not np.isfinite(sum(weights)):
        return
    found = soft_labels(np.array([[valence, arousal]]), sigma=sigma)[0]
    np.testing.assert_allclose(found, np.array(weights) / sum(weights), atol=1e-9)


def test_regions_are_valence_major():
    centres = RegionRecipe().centres_K2()
    happy_calm = PHRASES.index("relaxed, content, and pleasant")
    angry = PHRASES.index("angry, tense, and highly aroused")
    np.testing.assert_allclose(centres[happy_calm], (0.66, -0.66))
    np.testing.assert_allclose(centres[angry], (-0.66, 0.66))
    nearest = soft_labels(centres.astype(np.float32)).argmax(axis=1)
    assert nearest.tolist() == list(range(9))


def test_a_narrow_gaussian_far_from_every_centre_does_not_underflow():
    found = soft_labels(np.array([[1.0, 1.0]]), sigma=0.001)
    assert np.isfinite(found).all()
    assert found.argmax() == 8


def test_a_prototype_is_the_normalised_mean_of_normalised_embeddings():
    embeddings = {"a x": np.array([3.0, 0.0], np.float32), "b x": np.array([0.0, 5.0], np.float32)}
    found = prototypes(embeddings, ["x"], ["a {}", "b {}"])
    np.testing.assert_allclose(found, [[np.sqrt(0.5), np.sqrt(0.5)]], rtol=1e-6)


def test_a_prompt_without_embedding_is_named():
    with pytest.raises(StoreError, match="a face showing joy"):
        prototypes({}, ["joy"], ["a face showing {}"])


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"valence": [0.5, -0.5], "arousal": [0.0], "phrases": ["a", "b"]}, "ascend"),
        ({"valence": [-2.0, 0.5], "arousal": [0.0], "phrases": ["a", "b"]}, "within"),
        ({"phrases": ["a"]}, "as many phrases"),
        ({"templates": ["a face"]}, "must hold {}"),
        ({"sigma": 0}, "greater than 0"),
    ],
)
def test_grids_that_cannot_be_are_refused(fields, fault):
    with pytest.raises(RecipeError, match=fault):
        validated(RegionRecipe, fields, where="test")
