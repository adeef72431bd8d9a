"""What is said of number formats that a processor only emulates."""

import pytest
import torch

from tests.listening import Listening, Watching
from tests.planted import plant_store
from vaprompt.devices import emulation
from vaprompt.recipes import validated
from vaprompt.sweeps.sweep import run_sweep
from vaprompt.sweeps.variants import read_sweep
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.run import train

OLD = {"architecture": "x86_64", "avx512_f": True, "avx512_bf16": False, "amx_bf16": False, "avx512_fp16": False}


@pytest.mark.parametrize(
    ("precision", "device", "more", "warned"),
    [
        ("bf16", "cpu", {}, True),
        ("fp16", "cpu", {}, True),
        ("fp16", "cpu", {"avx512_bf16": True, "amx_bf16": True}, True),
        ("bf16", "cpu", {"avx512_bf16": True}, False),
        ("bf16", "cpu", {"amx_bf16": True}, False),
        ("fp16", "cpu", {"amx_fp16": True}, False),
        ("bf16", "cpu", {"architecture": "aarch64"}, False),
        ("bf16", "cuda", {}, False),
        ("fp32", "cpu", {}, False),
        ("auto", "cpu", {}, False),
    ],
)
def test_warns_of_formats_that_the_processor_has_no_instructions_for(monkeypatch, precision, device, more, warned):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: OLD | more)
    assert (emulation(precision, device) is not None) == warned


def test_training_and_sweeps_begin_with_that(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: OLD)
    store = plant_store(tmp_path / "store.zarr", train=1, validation=1, seconds=20.0)
    small = {"width": 8, "temporal": {"units": 8}, "fusion": {"feedforward": 8}}
    lines = {"epochs": 1, "model": small, "compute": {"precision": "bf16"}}
    alone = Listening()
    train(store, validated(TrainRecipe, lines, where="test"), tmp_path / "run", device="cpu", progress=alone)
    sweep = tmp_path / "sweep.toml"
    sweep.write_text(f'base = "{tmp_path / "run" / "recipe.toml"}"\n[[variant]]\nname = "a"\n')
    watcher = Watching()
    run_sweep(
        store, read_sweep(sweep, tmp_path / "runs"), tmp_path / "runs", device="cpu", score=False, watcher=watcher
    )
    warning = "compute.precision: this processor has no instructions for bf16; fp32 is faster on it"
    assert alone.said[0] == watcher.said[0] == warning
