"""What commands make lies on this machine: a URL is refused before anything is done, and no folder bears its name."""

from pathlib import Path

import pytest

from tests.cli.calling import call

MAKING = [
    "demo URL",
    "synth URL",
    "train store.zarr --run URL",
    "sweep store.zarr sweep.toml --runs URL",
    "finetune run data --run URL",
    "finetune run data --run new --scratch URL",
    "evaluate run --out URL",
    "crossvalidate store.zarr --out URL",
    "submit run --template t.txt --store store.zarr --out URL",
    "report run --out URL",
    "predict run a.mp4 --out URL",
    "predict run a.mp4 --out out --overlay URL",
    "serve run --keep URL",
    "plot traces run --out URL",
    "weights fetch recipe.toml --to URL",
]


@pytest.mark.parametrize("command", MAKING)
@pytest.mark.parametrize("url", ["s3://me:hush@team/new.mp4", "ftp://team/new.mp4", "file://elsewhere/new.mp4"])
def test_what_is_made_cannot_be_elsewhere(command: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    refused = call(*(url if word == "URL" else word for word in command.split()))
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert "/new.mp4: is not on this machine; name a folder or file of this machine" in refused.fault
    assert "hush" not in refused.fault
    assert list(tmp_path.iterdir()) == []


def test_a_file_url_names_a_folder_here(tmp_path: Path):
    full = tmp_path / "a full folder"
    full.mkdir()
    (full / "x").touch()
    assert call("synth", full.as_uri()).fault.startswith(f"vaprompt: {full}: ")
