"""The launcher for Slurm: what it calls, and what it refuses."""

import os
import subprocess
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[2] / "extract" / "slurm.sh"
ARRAY = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "8", "SLURM_ARRAY_TASK_COUNT": "8"}
ASKED = {"DATA": "my data.toml", "STORE": "/shared/s.zarr"}


@pytest.fixture
def launch(tmp_path):
    """Run the launcher with a `vaprompt` that prints its arguments, one a line."""
    program = tmp_path / "vaprompt"
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)

    def run(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            ["bash", LAUNCHER, *options], env={"PATH": path} | variables, capture_output=True, text=True, check=False
        )

    return run


def test_each_task_makes_its_shard(launch):
    done = launch("--device", "cuda", **ASKED, **ARRAY, SLURM_ARRAY_TASK_ID="3")
    called = done.stdout.splitlines()
    assert called[:5] == ["extract", "my data.toml", "extract/paper.toml", "--store", "/shared/s.zarr"]
    assert called[5:] == ["--shard", "3/8", "--device", "cuda"]


def test_without_an_array_it_does_all(launch):
    assert launch(**ASKED, RECIPE="mine.toml").stdout.splitlines()[2:] == [
        "mine.toml",
        "--store",
        "/shared/s.zarr",
        "--shard",
        "1/1",
    ]


@pytest.mark.parametrize("changes", [{"SLURM_ARRAY_TASK_MIN": "0"}, {"SLURM_ARRAY_TASK_MAX": "16"}])
def test_an_array_that_leaves_videos_out_is_refused(launch, changes):
    done = launch(**ASKED, **(ARRAY | changes), SLURM_ARRAY_TASK_ID="3")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--array=1-8" in done.stderr


@pytest.mark.parametrize("missing", ["DATA", "STORE"])
def test_what_is_not_set_is_named(launch, missing):
    done = launch(**{name: value for name, value in ASKED.items() if name != missing})
    assert done.returncode != 0
    assert f"set {missing} to" in done.stderr
