"""A planted store and a run on it, made once for all tests of this room; nothing may change them."""

import pytest

from tests.planted import plant_store
from tests.training.small import recipe
from vaprompt.training.run import train


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return plant_store(tmp_path_factory.mktemp("planted") / "store.zarr")


@pytest.fixture(scope="session")
def undisturbed(store, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    train(store, recipe(), run, device="cpu")
    return run
