"""Several seeds of one variant: mean, spread, and whether two variants differ by more than chance."""

import numpy as np
import pytest

from tests.evaluation.definition import lin
from vaprompt.errors import RunError
from vaprompt.evaluation.paired import paired_difference
from vaprompt.evaluation.several import differ, difference_of_variants, spread


def scored(noise, *, videos=12, frames=80, seed=0):
    """Return a model's predictions of videos whose labels are always the same, with so much noise."""
    truths = np.random.default_rng(7).normal(size=(videos, frames, 2)).clip(-1, 1)
    random = np.random.default_rng(seed + 100)
    return [(f"v{index}", truth + noise * random.normal(size=truth.shape), truth) for index, truth in enumerate(truths)]


def test_mean_and_deviation_are_those_of_a_sample():
    assert spread([0.5, 0.7, None]) == pytest.approx({"mean": 0.6, "deviation": np.sqrt(0.02), "seeds": 2})
    assert spread([0.5]) == {"mean": 0.5, "deviation": None, "seeds": 1}
    assert spread([None]) == {"mean": None, "deviation": None, "seeds": 0}


def test_with_one_seed_a_side_it_is_the_paired_difference():
    first, second = scored(0.6), scored(0.4, seed=1)
    assert difference_of_variants([first], [second]) == paired_difference(first, second)


def test_the_difference_is_that_of_the_means_over_seeds():
    first = [scored(0.6, seed=seed) for seed in range(3)]
    second = [scored(0.4, seed=seed) for seed in range(3, 5)]
    found = difference_of_variants(first, second)

    def mean(models):
        pooled = [[np.concatenate(parts) for parts in list(zip(*model, strict=True))[1:]] for model in models]
        return np.mean([[lin(x[:, axis], y[:, axis]) for axis in (0, 1)] for x, y in pooled], axis=0)

    expected = mean(second) - mean(first)
    assert found["valence"]["difference"] == pytest.approx(expected[0], abs=1e-9)
    assert found["mean"]["difference"] == pytest.approx(expected.mean(), abs=1e-9)
    assert found["mean"]["interval"][0] < expected.mean() < found["mean"]["interval"][1]
    assert differ(found["mean"])
    assert found["mean"]["above"] == 1.0
    assert found["videos"] == 12


def test_seeds_that_scatter_more_than_the_variants_differ_make_no_difference():
    # The second is a little better on the whole, but one seed of it is worse than any of the first.
    first = [scored(noise, seed=seed) for seed, noise in enumerate((0.5, 0.52, 0.48))]
    second = [scored(noise, seed=seed) for seed, noise in enumerate((0.2, 0.7, 0.45), start=5)]
    by_seeds = difference_of_variants(first, second)["mean"]
    alone = paired_difference(first[0], second[0])["mean"]
    assert differ(alone)
    assert by_seeds["difference"] > 0
    assert not differ(by_seeds)


def test_variants_scored_on_other_frames_are_not_compared():
    with pytest.raises(RunError, match="scored in one of them only, such as 'v11'"):
        difference_of_variants([scored(0.5), scored(0.5)], [scored(0.5, videos=11)])
    assert differ({"difference": 0.1, "interval": None, "above": None}) is None
