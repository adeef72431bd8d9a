"""A planted store and small sweeps on it, made once for all tests of this room; nothing may change them."""

from pathlib import Path

import pytest

from tests.planted import plant_store
from vaprompt.sweeps.sweep import SweepResult, run_sweep
from vaprompt.sweeps.variants import Sweep, read_sweep

SHARED = """
[shared]
epochs = 3
batch = 16
window = { seconds = 4.0, stride = 1.0, frames = 6 }
model = { width = 16, temporal.units = 16, fusion.feedforward = 32 }
optimiser.learning_rate = 2e-3
"""
GRID = SHARED + "[grid]\nloss.kl = [0.0, 0.2]\nmodel.temporal.kind = ['gru', 'tcn']\n"


def described(folder: Path, text: str, *overrides: str) -> Sweep:
    """Return a sweep whose file and runs lie in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.toml").write_text(text)
    return read_sweep(folder / "sweep.toml", folder / "runs", overrides)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant_store(tmp_path_factory.mktemp("swept") / "store.zarr", train=4, validation=3, seconds=16.0)


@pytest.fixture(scope="session")
def swept(store: Path, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """Return a grid of four variants, trained and scored in this process."""
    folder = tmp_path_factory.mktemp("grid")
    return run_sweep(store, described(folder, GRID), folder / "runs", device="cpu", workers=1)
