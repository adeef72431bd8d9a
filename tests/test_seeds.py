"""Seeds that are made of others lead to draws that have nothing in common, on the processor too."""

import pytest
import torch

from vaprompt.model.dropout import Dropout, drawn_by
from vaprompt.seeds import derived_seed
from vaprompt.training.step import masks_of, seed_masks


def first_draw(seed: int) -> int:
    return int(torch.empty((), dtype=torch.int64).random_(generator=torch.Generator().manual_seed(seed)))


def test_neighbours_lead_to_other_draws():
    draws = {
        first_draw(derived_seed(seed, epoch, step)) for seed in range(5) for epoch in range(20) for step in range(100)
    }
    assert len(draws) == 10_000


def test_the_order_of_numbers_counts_and_where_one_ends():
    assert len({derived_seed(1, 2), derived_seed(2, 1), derived_seed(12), derived_seed(1, 2, 0)}) == 4
    assert derived_seed(3, 7) == derived_seed(3, 7)


@pytest.mark.parametrize("seed", [0, 1, 5_000_016, 2**40])
def test_the_shards_of_a_batch_drop_other_elements(seed):
    masks = masks_of(torch.device("cpu"))
    assert len(masks) > 1
    drawn = []
    for epoch in range(2):
        seed_masks(masks, seed + epoch)
        for generator in masks:
            with drawn_by(generator):
                drawn.append((Dropout(0.5)(torch.ones(100_000)) > 0).double() - 0.5)
    for index, one in enumerate(drawn):
        for other in drawn[:index]:
            assert abs((one * other).mean().item() * 4) < 0.02
