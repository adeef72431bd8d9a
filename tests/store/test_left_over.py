"""Killed just before a small file gets its name, a writer leaves nothing that stays or that is taken for damage."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store.stores import filled
from vaprompt.store import FeatureStore
from vaprompt.store.index import INDEX_FILE
from vaprompt.store.layout import GROUP_FILE, UNFINISHED
from vaprompt.store.pull import pull
from vaprompt.store.sharing.combining import subset
from vaprompt.store.verification import verify


def die_at(place: str) -> None:
    """Kill this process as it is about to give a file its name."""
    replace = Path.replace

    def replacing(self: Path, target: Path) -> Path:
        if str(target).endswith(place):
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = replacing  # type: ignore[method-assign,assignment]


def act(action: str, source: str, target: str) -> None:
    """Write into a store."""
    if action == "index":
        FeatureStore.open(target).write_index()
    elif action == "stream":
        with FeatureStore.open(target).writer("image.other", "a", {"schema": 9}):
            pass
    elif action == "pull":
        pull(f"file://{source}", Path(target))
    else:
        subset(source, Path(target))


@pytest.mark.parametrize(
    ("action", "place"),
    [
        ("index", INDEX_FILE),
        ("stream", f"image.other/{GROUP_FILE}"),
        ("pull", f"image/a/{GROUP_FILE}"),
        ("pull", f"extra/{GROUP_FILE}"),
        ("pull", UNFINISHED),
        ("pull", INDEX_FILE),
        ("subset", UNFINISHED),
    ],
)
def test_what_a_killed_writer_was_about_to_name_is_cleared_away(action, place, tmp_path):
    source, target = filled(tmp_path / "s.zarr", {"a": "train", "b": "test"}), tmp_path / "t.zarr"
    if action != "subset":
        filled(target, {"a": "train", "b": "test"})
    if action == "pull":  # a marker alone differs, and a stream is new
        source.mark("image", "a", notes=["looked at"])
        with source.writer("extra", "a", {"schema": 1}):
            pass
        source.write_index()
    program = "import sys; from tests.store.test_left_over import act, die_at; die_at(sys.argv[1]); act(*sys.argv[2:])"
    words = [sys.executable, "-c", program, place, action, str(source.path), str(target)]
    died = subprocess.run(words, cwd=Path(__file__).parents[2], check=False, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    act(action, str(source.path), str(target))
    hidden = [path for path in target.rglob(".*") if path.name != INDEX_FILE]
    assert hidden == []
    assert not [fault for fault in verify(target).faults if "not in the marker" in fault.fault]
