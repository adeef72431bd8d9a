"""A planted store and small sweeps on it, made once for all tests of this room; nothing may change them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.planted import plant_store
from vaprompt.store.leases import present
from vaprompt.sweeps.board import Nobody
from vaprompt.sweeps.listed import Listed
from vaprompt.sweeps.sweep import SweepResult, run_sweep
from vaprompt.sweeps.variants import Sweep, read_sweep
from vaprompt.sweeps.work import Job

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


def contents(run: Path) -> dict[str, bytes]:
    """Return what a run's bytes are compared by."""
    names = ("checkpoint.safetensors", "metrics.jsonl", "recipe.toml", "predictions.safetensors")
    return {name: (run / name).read_bytes() for name in names}


@contextmanager
def handed_out(sweep: Sweep) -> Iterator[Listed]:
    """Yield a sweep's variants as jobs, a job each."""
    runs = sweep.variants[0].run.parent
    runs.mkdir(parents=True, exist_ok=True)
    jobs = [Job((one,)) for one in sweep.variants]
    with present(runs) as leases:
        yield Listed(jobs, leases, Nobody())


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant_store(tmp_path_factory.mktemp("swept") / "store.zarr", train=4, validation=3, seconds=16.0)


@pytest.fixture(scope="session")
def swept(store: Path, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """Return a grid of four variants, trained and scored in this process."""
    folder = tmp_path_factory.mktemp("grid")
    return run_sweep(store, described(folder, GRID), folder / "runs", device="cpu", workers=1)
