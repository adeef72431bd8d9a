"""What a fine-tuning saves of itself is gone on with wherever the same recipe allows it."""

import pytest
import torch

from vaprompt.finetuning.state import Learners, TuningState, load_state, save_state


def learners(*, scaled: bool) -> Learners:
    heads = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(heads.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
    scaler.scale(heads(torch.ones(1, 3)).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    return Learners(heads, {}, optimizer, scaler)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("now", [False, True])
def test_a_device_whose_number_format_needs_scaling_goes_on_with_one_that_needs_none(tmp_path, before, now):
    """With `precision = "auto"`, as from a processor to a GPU without bf16, or back."""
    saved, other = learners(scaled=before), learners(scaled=now)
    save_state(tmp_path / "state", TuningState(epoch=3), saved)
    assert load_state(tmp_path / "state", other) == TuningState(epoch=3)
    assert all(torch.equal(value, other.weights()[name]) for name, value in saved.weights().items())
    assert other.scaler.is_enabled() is now
    if now:
        assert other.scaler.get_scale() == 1024.0
