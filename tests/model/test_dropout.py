"""Dropout drops the share that it is told to, keeps the mean, and draws the same masks from the same generator."""

import pytest
import torch

from vaprompt.lanes import Lanes
from vaprompt.model.dropout import Dropout, drawn_by


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_it_drops_its_share_and_keeps_the_mean(share):
    torch.manual_seed(0)
    dropout = Dropout(share)
    left = dropout(torch.ones(1000, 1001))
    assert (left == 0).float().mean().item() == pytest.approx(share, abs=2e-3)
    assert left.mean().item() == pytest.approx(1, abs=4e-3)
    assert len(left.unique()) == (1 if share == 0 else 2)
    assert torch.equal(dropout.eval()(left), left)


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    left = (Dropout(0.5)(torch.ones(10**6)) > 0).double() - 0.5
    for lag in (1, 2, 3, 4, 5, 8):
        assert abs((left[:-lag] * left[lag:]).mean().item() * 4) < 5e-3


def test_each_thread_draws_from_its_own_generator():
    dropout = Dropout(0.3)

    def draw(seed):
        with drawn_by(torch.Generator().manual_seed(seed)):
            return dropout(torch.ones(7, 11)), dropout(torch.ones(5))

    alone = [draw(seed) for seed in range(8)]
    beside = Lanes(2).map(draw, range(8))
    for (first, second), (first_again, second_again) in zip(alone, beside, strict=True):
        assert torch.equal(first, first_again)
        assert torch.equal(second, second_again)
    before = torch.random.get_rng_state()
    draw(0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_mask_that_is_given_is_used():
    dropout = Dropout(0.3)
    dropout.kept = torch.tensor([0.0, 2.0, 1.0])
    assert dropout(torch.ones(3)).tolist() == [0, 2, 1]
    assert "kept" not in dropout.state_dict()
