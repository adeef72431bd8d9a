"""CCC against its definition, an independent implementation, and the cases that trip implementations up."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchmetrics.functional.regression import concordance_corrcoef

from vaprompt.metrics import MetricError, ccc, scores

series = st.integers(3, 60).flatmap(
    lambda n: st.tuples(
        *(arrays(np.float64, n, elements=st.floats(-1, 1, width=32), unique=True) for _ in range(2)),
    )
)


@given(series)
def test_ccc_is_lins_definition(pair):
    x, y = pair
    expected = 2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert ccc(x, y) == pytest.approx(expected, abs=1e-9)


def test_ccc_agrees_with_torchmetrics():
    generator = np.random.default_rng(3)
    truth = generator.uniform(-1, 1, 200_000)
    prediction = 0.6 * truth + generator.normal(0.1, 0.3, 200_000)
    # torchmetrics may take sample variances (ddof 1): with this many samples that changes the sixth digit.
    other = concordance_corrcoef(torch.from_numpy(prediction), torch.from_numpy(truth)).item()
    assert ccc(prediction, truth) == pytest.approx(other, abs=1e-5)


def test_no_mixture_of_variances_with_different_degrees_of_freedom():
    """Fault 3: with two samples, covariance over N - 1 and variances over N would give 2, not 1."""
    assert ccc(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == pytest.approx(1.0, abs=1e-12)
    assert ccc(np.array([0.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(-1.0, abs=1e-12)


def test_a_constant_prediction_scores_zero_even_where_rounding_would_give_it_a_variance():
    truth = np.linspace(-1, 1, 101)
    assert ccc(np.full(101, 0.1), truth) == 0
    assert ccc(truth, np.full(101, 0.1)) == 0


def test_two_different_constants_score_zero():
    assert ccc(np.full(5, 0.2), np.full(5, 0.3)) == 0


def test_the_same_constant_twice_is_undefined():
    with pytest.raises(MetricError, match="undefined"):
        ccc(np.full(7, 0.1), np.full(7, 0.1))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad):
    with pytest.raises(MetricError, match="finite"):
        ccc(np.array([0.0, bad]), np.array([0.0, 1.0]))


@pytest.mark.parametrize(("x", "y"), [([], []), ([0.0, 1.0], [0.0])])
def test_empty_and_unequal_series_are_refused(x, y):
    with pytest.raises(MetricError):
        ccc(np.array(x), np.array(y))


def test_single_precision_loses_nothing_at_400_000_frames_with_a_large_offset():
    generator = np.random.default_rng(0)
    truth = (0.9 + 0.05 * generator.standard_normal(400_000)).astype(np.float32)
    prediction = (truth + 0.02 * generator.standard_normal(400_000)).astype(np.float32)
    assert ccc(prediction, truth) == pytest.approx(ccc(prediction.astype(np.float64), truth.astype(np.float64)))


def test_scores_pool_columns_and_say_none_where_undefined():
    truth = np.stack((np.linspace(-1, 1, 50), np.zeros(50)), axis=1).astype(np.float32)
    found = scores(truth.copy(), truth)
    assert found == {"valence": pytest.approx(1.0), "arousal": None, "mean": None, "frames": 50}
    assert scores(truth[:0], truth[:0]) == {"valence": None, "arousal": None, "mean": None, "frames": 0}
