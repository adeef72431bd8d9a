"""A planted store and small sweeps on it, made once for all tests of this room; nothing may change them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
SEARCH = (
    SHARED.replace("epochs = 3", "epochs = 2")
    + """
[search]
trials = TRIALS
startup = 2
warmup = 0
[search.space]
loss.kl = { low = 0.0, high = 1.0 }
"optimiser.learning_rate" = { low = 1e-6, high = 1e-2, log = true }
model.head.hidden = { low = 8, high = 64, step = 8 }
"model.fusion.kind" = { choices = ["attention", "gated"] }
"""
)
"""A search of so many TRIALS."""
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


@pytest.fixture(scope="session")
def searched(store: Path, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """Return a search of five trials."""
    folder = tmp_path_factory.mktemp("search")
    return run_sweep(
        store, described(folder, SEARCH.replace("TRIALS", "5")), folder / "runs", device="cpu", score=False
    )


def tried(result: SweepResult) -> list[Any]:
    """Return what the trials of two searches are compared by."""
    return [(one.variant.label, one.variant.recipe, one.state, one.best) for one in result.found]
