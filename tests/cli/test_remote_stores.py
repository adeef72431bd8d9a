"""Every command that takes a store takes a URL; checked on a bucket of a real server."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.cli.calling import call
from tests.planted import plant_store
from tests.servers import web_server
from vaprompt.store import FeatureStore
from vaprompt.store.index import INDEX_FILE

QUICK = ("--set", "epochs=1", "--set", "window.stride=2", "--device", "cpu")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = plant_store(tmp_path_factory.mktemp("planted") / "s.zarr", train=2, validation=1, seconds=15)
    FeatureStore.open(path).write_index()
    return path


@pytest.fixture
def url() -> str:
    return f"s3://team/{uuid.uuid4().hex}.zarr"


def test_a_store_is_shared_and_trained_on_from_its_url(s3, cache, planted, url, tmp_path):
    pushed = call("store", "push", planted, url, "--json")
    assert pushed.code == 0
    assert pushed.json["store"] == url
    assert pushed.json["bytes"] > 50_000
    told = call("store", "info", url, "--json")
    assert told.json["splits"]["train"]["videos"] == 2

    first = call("train", url, "train/demo.toml", "--run", tmp_path / "run", *QUICK)
    assert first.code == 0, first.err
    s3.asked.clear()
    second = call("train", url, "train/demo.toml", "--run", tmp_path / "again", *QUICK)
    assert second.code == 0, second.err
    assert [path.rpartition("/")[2] for _, path in s3.asked] == [INDEX_FILE]
    local = call("train", planted, "train/demo.toml", "--run", tmp_path / "local", *QUICK)
    assert local.code == 0
    weights = [(tmp_path / run / "checkpoint.safetensors").read_bytes() for run in ("run", "again", "local")]
    assert weights[0] == weights[1] == weights[2]

    assert json.loads((tmp_path / "run" / "run.json").read_text())["store"]["path"] == url
    s3.asked.clear()
    scored = call("evaluate", tmp_path / "run", "--json")
    assert scored.code == 0, scored.err
    assert scored.json["official"] == call("evaluate", tmp_path / "local", "--json").json["official"]
    assert len(s3.asked) == 1
    assert call("evaluate", tmp_path / "local", "--store", url).code == 0

    pulled = call("store", "pull", url, tmp_path / "p.zarr")
    assert pulled.code == 0
    assert "brought over" in pulled.out
    assert call("store", "pull", url, tmp_path / "p.zarr", "--json").json["groups"] == 0


def test_a_run_keeps_no_secret_of_its_stores_url(cache, planted, tmp_path):
    with web_server(planted) as front:
        secret = front.url.replace("//", "//user:hush@") + "?token=hush"
        done = call("train", secret, "train/demo.toml", "--run", tmp_path / "run", *QUICK)
    assert done.code == 0, done.err
    assert not [file for file in (tmp_path / "run").rglob("*") if file.is_file() and b"hush" in file.read_bytes()]
    assert not [file for file in cache.rglob("*.json") if b"hush" in file.read_bytes()]


@pytest.mark.parametrize(
    "command",
    [
        ("store", "info", "URL"),
        ("store", "pull", "URL", "p.zarr"),
        ("train", "URL", "--run", "r"),
        ("crossvalidate", "URL", "--out", "o"),
    ],
)
@pytest.mark.parametrize(("fault", "words"), [(403, "no rights"), (404, "there is no feature store"), (500, "did not")])
def test_what_is_wrong_with_a_url_is_one_line(
    command, fault, words, s3, cache, url, tmp_path, monkeypatch, quick_retries
):
    monkeypatch.chdir(tmp_path)
    s3.fault = lambda method, path: fault
    outcome = call(*(url if word == "URL" else word for word in command))
    assert outcome.code == 2
    assert words in outcome.fault
    assert url in outcome.fault
    assert outcome.out == ""


def test_a_process_that_read_a_bucket_ends_and_says_no_more(s3, planted, url):
    call("store", "push", planted, url)
    done = subprocess.run(
        [sys.executable, "-m", "vaprompt", "store", "info", url, "--json"],
        env=dict(os.environ),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["store"] == url


def test_store_info_needs_none_of_the_networks(planted):
    """Whoever looks into a store does not wait for torch."""
    program = "import sys; from vaprompt.cli.main import run; run(sys.argv[1:]); print('torch' in sys.modules)"
    command = [sys.executable, "-c", program, "store", "info", str(planted)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_store_is_extracted_to_its_url(s3, cache, small_dataset, url, tmp_path, monkeypatch):
    small = ("extract/demo.toml", "--set", "image.weights=random:0", "--set", "audio.weights=random:0")
    first = call("extract", small_dataset, *small, "--store", url, "--limit", "1", "--device", "cpu", "--json")
    assert first.code == 0, first.err
    (done,) = first.json["done"]
    assert FeatureStore.open(url).videos() == [done]
    # On another machine, whose cache is empty, what is done is not done again.
    monkeypatch.setenv("VAPROMPT_CACHE", str(tmp_path / "elsewhere"))
    again = call("extract", small_dataset, *small, "--store", url, "--limit", "1", "--device", "cpu", "--json")
    assert again.json["skipped"] == [done]
    refused = call("extract", small_dataset, *small, "--store", "https://example.org/s.zarr")
    assert refused.code == 2
    assert "no bucket that can be pushed to" in refused.fault
