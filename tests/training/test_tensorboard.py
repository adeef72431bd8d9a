"""TensorBoard is told of every epoch once, however often a training is stopped, and metrics.jsonl stays as it is."""

import importlib.util

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.planted import plant_store
from tests.training.small import contents, recipe
from vaprompt.errors import TargetError
from vaprompt.training import tensorboard
from vaprompt.training.run import train
from vaprompt.training.stacked import train_stacked
from vaprompt.training.tensorboard import TensorBoardLog, logged


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return plant_store(tmp_path_factory.mktemp("logged") / "store.zarr", train=2, validation=2, seconds=12.0)


def told(run):
    """Return epochs and values of each curve that TensorBoard would draw."""
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_every_epoch_is_told_once_even_after_a_stop(store, tmp_path):
    run = tmp_path / "run"

    def stopping(log):
        def watch(run, history):
            log(run, history)
            if len(history) == 2:
                raise KeyboardInterrupt

        return watch

    with pytest.raises(KeyboardInterrupt), TensorBoardLog() as log:
        train(store, recipe(epochs=3), run, device="cpu", watch=stopping(log))
    with TensorBoardLog() as log:
        train(store, recipe(epochs=3), run, device="cpu", watch=log)
    curves = told(run)
    assert set(curves) == {
        *(f"train/{name}" for name in ("loss", "ccc", "kl")),
        *(f"validation/{name}" for name in ("valence", "arousal", "mean")),
    }
    assert all([step for step, _ in curve] == [1, 2, 3] for curve in curves.values())
    train(store, recipe(epochs=3), tmp_path / "unlogged", device="cpu")
    assert contents(run) == contents(tmp_path / "unlogged")
    with TensorBoardLog() as log:
        log.whole(tmp_path / "unlogged")
    assert told(tmp_path / "unlogged") == curves


def test_each_run_of_a_stack_is_told_in_its_own_folder(store, tmp_path):
    runs = [tmp_path / "a", tmp_path / "b"]
    with TensorBoardLog() as log:
        recipes = [recipe(epochs=2), recipe(epochs=1, seed=1)]
        train_stacked(store, recipes, runs, device="cpu", watch=log)
    assert [len(told(run)["train/loss"]) for run in runs] == [2, 1]


def test_without_the_package_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(
        tensorboard, "find_spec", lambda name: None if name == "tensorboard" else importlib.util.find_spec(name)
    )
    said = r"needs the package tensorboard; install it with: .*vaprompt\[tensorboard\]"
    with pytest.raises(TargetError, match=said), logged("tensorboard"):
        pass
    with logged(None) as nothing:
        assert nothing is None
