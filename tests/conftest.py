"""What many tests start from: a small data set, its feature store and a run, each made once a session.

Nothing may change them, as all processes of a session share them: a test that writes copies first (`shutil.copytree`).
"""

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from selenium.webdriver import Chrome

from tests.browsing import Tab, chromium, pictures_folder
from tests.servers import S3_VARIABLES, Front, in_front_of, moto
from tests.typechecking import begin_test, check_shapes_where_there_are_some

check_shapes_where_there_are_some()
# Before torch is imported: the tests' networks are too small for the threads to pay.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What is kept between runs of the program is not to outlive the tests, nor to come from before them.
_CACHE = tempfile.TemporaryDirectory(prefix="vaprompt-cache-")
os.environ["VAPROMPT_CACHE"] = _CACHE.name

# A machine that is busy with other things is no fault of what is tested.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

SMALL_SEED = 5


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Say how many processes `-n auto` is: one more than cores, as many a test waits (for a process, a browser)."""
    told = "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ
    return None if told else (os.cpu_count() or 1) + 1


def pytest_runtest_setup() -> None:
    """Let types and shapes be checked in every test's first calls."""
    begin_test()


@pytest.fixture(scope="session", autouse=True)
def no_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is remembered from one run of the tests to the next, and the user's own memory, out of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VAPROMPT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_disk() -> Iterator[None]:
    """Do not wait for the disk: tests of their own say what is synced and when."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def draw_dataset(root: Path, *, videos: int, seconds: float, seed: int = SMALL_SEED) -> None:
    """Write a synthetic data set in a process of its own.

    There, types are not checked: thousands of small calls for each frame would make drawing twenty times slower.
    """
    options = ("--videos", str(videos), "--seconds", str(seconds), "--seed", str(seed))
    command = [sys.executable, "-m", "vaprompt", "synth", str(root), *options]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[1])


def draw_small(root: Path) -> None:
    """Write a synthetic data set in Aff-Wild2's layout: six people, 14 s each."""
    draw_dataset(root, videos=6, seconds=14.0)


def once(place: Path, make: Callable[[Path], object]) -> Path:
    """Return a path at which something was made by whichever of a session's processes came first; others wait."""
    made = place.with_name(f".{place.name}.made")
    with place.with_name(f".{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            make(place)
            made.touch()
    return place


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for what is made `once` in a session, however many processes run its tests."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def small_dataset(shared_folder: Path) -> Path:
    """Return the root of a synthetic data set in Aff-Wild2's layout: six people, 14 s each."""
    return once(shared_folder / "data", draw_small)


def demo_features(data: Path, store: Path) -> None:
    """Fill the feature store of a data set by the embedded encoders."""
    from vaprompt.datasets.description import open_dataset
    from vaprompt.extraction.pipeline import extract
    from vaprompt.extraction.recipe import ExtractRecipe
    from vaprompt.recipes import read_recipe, shipped

    report = extract(open_dataset(data), read_recipe(ExtractRecipe, shipped("extract", "demo")), store)
    assert not report.failed


@pytest.fixture(scope="session")
def small_store(small_dataset: Path, shared_folder: Path) -> Path:
    """Return the feature store of `small_dataset`, made by the embedded encoders."""
    return once(shared_folder / "store.zarr", lambda store: demo_features(small_dataset, store))


@pytest.fixture(scope="session")
def small_run(small_store: Path, shared_folder: Path) -> Path:
    """Return a run of two epochs on `small_store`."""
    from vaprompt.recipes import read_recipe, shipped
    from vaprompt.training.recipe import TrainRecipe
    from vaprompt.training.run import train

    recipe = read_recipe(TrainRecipe, shipped("train", "demo"), ["epochs=2"])
    return once(shared_folder / "run", lambda run: train(small_store, recipe, run, device="cpu"))


@pytest.fixture(scope="session")
def clips() -> Path:
    """Return the folder of real clips that the variable VAPROMPT_CLIPS names; skip without it."""
    folder = os.environ.get("VAPROMPT_CLIPS")
    if not folder:
        pytest.skip("VAPROMPT_CLIPS names no folder of real clips")
    return Path(folder)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Return the URL of an S3-compatible server, in a process of its own, with a bucket `team`."""
    with moto() as url:
        yield url


@pytest.fixture(scope="session")
def s3_front(s3_server: str) -> Iterator[Front]:
    """Return what stands in front of the S3 server, all session long, as connecting anew would cost half a second."""
    with in_front_of(s3_server) as front:
        yield front


@pytest.fixture
def s3(s3_front: Front, monkeypatch: pytest.MonkeyPatch) -> Front:
    """Return a server that does as it is asked; programs find it as they would find anybody's."""
    s3_front.reset()
    for name, value in S3_VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_front.url)
    return s3_front


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of copies of remote stores."""
    monkeypatch.setenv("VAPROMPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Come back sooner than one would to a server far away."""
    monkeypatch.setattr("vaprompt.store.network.PAUSES", (0.01,) * 5)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Return a Chromium that stays open all session long; skip without one."""
    with chromium(tmp_path_factory.mktemp("chromium")) as chrome:
        yield chrome


@pytest.fixture
def tab(browser: Chrome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """Return a browser's tab; the test fails if a page complained in it or asked for anything that is not its own."""
    opened = Tab(browser, pictures_folder(tmp_path_factory))
    yield opened
    faults = opened.faults()
    browser.get("about:blank")
    assert not faults, faults
