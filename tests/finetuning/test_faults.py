"""What ends a fine-tuning: a run that does not fit, numbers that are none, a cut file, memory that does not suffice."""

import os
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from tests.finetuning.conftest import FROZEN, recipe
from vaprompt.datasets.description import open_dataset
from vaprompt.errors import RecipeError, RunError
from vaprompt.finetuning import job
from vaprompt.finetuning.finetune import finetune


def test_what_does_not_fit_the_run_is_refused_before_anything_is_written(base, small_dataset, tmp_path):
    new = tmp_path / "new"
    with pytest.raises(RunError, match="is the run to start from"):
        finetune(base, small_dataset, recipe(), base, device="cpu")
    with pytest.raises(RecipeError, match=r"image\.blocks = 99: the network has 4 blocks"):
        finetune(base, small_dataset, recipe(image={"tune": "last", "blocks": 99}), new, device="cpu")
    with pytest.raises(RunError, match="holds nothing to resume"):
        finetune(base, small_dataset, recipe(), new, device="cpu", resume=True)
    with pytest.raises(RunError, match="is not a run"):
        finetune(small_dataset, small_dataset, recipe(), new, device="cpu")
    assert not new.exists()
    new.mkdir()
    (new / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        finetune(base, small_dataset, recipe(), new, device="cpu")


@pytest.mark.slow
def test_a_loss_that_is_no_number_names_step_videos_and_what_is_left(base, small_dataset, tmp_path, monkeypatch):
    from vaprompt.finetuning import session

    original, calls = session.window_loss, 0

    def broken(*arguments):
        nonlocal calls
        calls += 1
        found = original(*arguments)
        return tuple(value * float("nan") for value in found) if calls == 5 else found

    monkeypatch.setattr(session, "window_loss", broken)
    with pytest.raises(RunError) as error:
        finetune(base, small_dataset, recipe(**FROZEN), tmp_path / "new", device="cpu")
    said = str(error.value)
    assert "no longer a number in step 2 of epoch 2" in said
    videos = open_dataset(small_dataset).videos
    assert any(video.name in said for video in videos if video.split == "train")
    assert "best-1.safetensors" in said
    assert (tmp_path / "new" / "best-1.safetensors").is_file()
    assert "encoder_learning_rate" in said


@pytest.mark.slow
def test_a_best_that_is_cut_is_named_before_more_is_trained(base, small_dataset, tmp_path, monkeypatch):
    new, quick = tmp_path / "new", recipe(**FROZEN)
    with monkeypatch.context() as patched:
        patched.setattr(job, "clear_best", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            finetune(base, small_dataset, quick, new, device="cpu", save_seconds=0)
    os.truncate(new / "best-1.safetensors", 1000)
    with pytest.raises(RunError, match=r"best-1\.safetensors: is not a whole .*; delete resume\.safetensors beside it"):
        finetune(base, small_dataset, quick, new, device="cpu")


def too_much(*_, **__):
    return torch.empty(2**55, dtype=torch.uint8)


@pytest.mark.parametrize("place", ["job.RawEncoders.to", "job.raw_split", "job.torch.optim.AdamW.step", "job.put_best"])
@pytest.mark.slow
def test_memory_that_ends_outside_the_encoders_is_one_line_too(base, small_dataset, tmp_path, monkeypatch, place):
    """As where encoders move to a device, or where AdamW's moments come to be, in its first step."""
    monkeypatch.setattr(f"vaprompt.finetuning.{place}", too_much)
    with pytest.raises(RunError, match=r"new: memory does not suffice \(.*allocate.*\); lower at_once or batch"):
        finetune(base, small_dataset, recipe(epochs=1), tmp_path / "new", device="cpu")


@pytest.mark.slow
def test_memory_that_does_not_suffice_is_told_or_made_do_with(base, small_dataset, tmp_path, monkeypatch):
    from vaprompt.finetuning.step import RawEncoders

    original = RawEncoders.encode

    def little(self, batch, *others):
        if len(batch) > 1:
            too_much()
        return original(self, batch, *others)

    monkeypatch.setattr(RawEncoders, "encode", little)
    with pytest.raises(RunError, match=r"2 windows at once do not fit into the memory of cpu; lower at_once"):
        finetune(base, small_dataset, recipe(at_once=2), tmp_path / "a", device="cpu")
    with pytest.raises(RunError, match="and turn checkpointing on"):
        finetune(base, small_dataset, recipe(at_once=2, checkpointing=False), tmp_path / "b", device="cpu")
    wanted = recipe(**FROZEN, at_once="auto", epochs=1)
    assert finetune(base, small_dataset, wanted, tmp_path / "c", device="cpu").trained


def test_predictions_that_are_no_numbers_name_videos_and_what_is_left(base, small_dataset, tmp_path, monkeypatch):
    """As after a last step with an infinite gradient, or where fp16 does not reach."""
    from vaprompt.finetuning.session import Session

    original = Session.predict
    monkeypatch.setattr(Session, "predict", lambda self, batch: original(self, batch) * np.nan)
    with pytest.raises(RunError, match=r"predictions are no longer numbers on windows of .*; no epoch was finished"):
        finetune(base, small_dataset, recipe(**FROZEN), tmp_path / "new", device="cpu")
