"""Of a table with the labels of many videos, a video's own rows say whether its labels are still what they were."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.extraction.conftest import touch_later
from tests.extraction.forge import write_tiny
from tests.extraction.test_streams import recipe
from vaprompt.datasets.base import Dataset
from vaprompt.datasets.description import open_dataset
from vaprompt.extraction import local, reading
from vaprompt.extraction.pipeline import extract
from vaprompt.extraction.plan import Examiner, plan
from vaprompt.store import FeatureStore
from vaprompt.store.verification import verify

pytestmark = pytest.mark.usefixtures("fake_encoders")

NAMES = ("v1", "v2", "v3")
HEADER = "video,frame,valence,arousal,split"


def lines() -> list[str]:
    """Return three rows of each video."""
    return [
        f"{name},{frame},0.{frame},-0.{number},train" for number, name in enumerate(NAMES, 1) for frame in (1, 4, 7)
    ]


def write(folder: Path, rows: list[str]) -> Dataset:
    """Write the table as it is now, later than before; return the data set."""
    table = folder / "data" / "labels.csv"
    table.write_text("\n".join([HEADER, *rows]) + "\n")
    touch_later(table)
    source = folder / "set.toml"
    source.write_text('name = "tiny"\nlayout = "csv"\nroot = "data"\n[labels]\npath = "labels.csv"\n')
    return open_dataset(source)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Return a folder with videos, a table of three of them, and their store."""
    folder = tmp_path_factory.mktemp("rows")
    write_tiny(folder / "data", videos=5)
    assert extract(write(folder, lines()), recipe(), folder / "s.zarr").done == list(NAMES)
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "rows")


def test_a_new_row_is_of_its_own_video_alone(folder, monkeypatch):
    store = folder / "s.zarr"
    data = write(folder, [*lines(), "v2,8,0.9,0.9,train"])
    report = extract(data, recipe(), store)
    assert report.changed == {"v2": "annotation labels.csv has other rows of this video"}
    assert report.skipped == ["v1", "v3"]
    monkeypatch.setattr(local, "image_encoder", None)  # labels need none
    monkeypatch.setattr(local, "audio_encoder", None)
    assert extract(data, recipe(), store, refresh=True).done == ["v2"]
    assert FeatureStore.open(store).labels("v2").value_F2[7, 0] == np.float32(0.9)
    again = extract(data, recipe(), store, deep=True)
    assert (again.changed, again.skipped) == ({}, list(NAMES))
    # The fakes make other shapes of sound than the recipe says.
    assert [fault for fault in verify(store, deep=True).faults if fault.stream != "audio"] == []


def test_another_video_in_the_table_leaves_the_others_as_they_are(folder):
    data = write(folder, ["v4,1,0.1,0.1,test", *lines()])
    found = plan(Examiner(data, FeatureStore.open(folder / "s.zarr"), deep=True))
    assert [(job.video.name, job.streams) for job in found.jobs] == [("v4", data.streams)]
    assert (found.changed, found.done) == ({}, NAMES)


def test_how_a_table_is_written_does_not_matter(folder):
    turned = [f"{row}0" if row.endswith(".") else row.replace(",0.1,", ",0.100,") for row in lines()]
    mixed = [row for frame in range(3) for row in turned[frame::3]]
    report = extract(write(folder, mixed), recipe(), folder / "s.zarr", deep=True)
    assert (report.changed, report.skipped) == ({}, list(NAMES))


def test_a_value_that_keeps_the_size_and_time_of_the_table_is_told_at_once(folder):
    table = folder / "data" / "labels.csv"
    state = table.stat()
    table.write_text(table.read_text().replace("v3,4,0.4", "v3,4,0.5"))
    os.utime(table, ns=(state.st_atime_ns, state.st_mtime_ns))
    report = extract(open_dataset(folder / "set.toml"), recipe(), folder / "s.zarr")
    assert list(report.changed) == ["v3"]


@pytest.mark.parametrize("row", ["v1,8,7.5,0.1,train", "v1,9,,,train"])
def test_rows_that_are_not_valid_or_break_the_format_count_too(folder, row):
    data = write(folder, [*lines(), row])
    assert list(extract(data, recipe(), folder / "s.zarr").changed) == ["v1"]
    report = extract(data, recipe(), folder / "s.zarr", refresh=True)
    if "7.5" in row:
        assert "labels.csv:11: valence 7.5 is outside [-1, 1]" in report.failed["v1"]
    else:
        assert report.done == ["v1"]


def test_of_markers_of_earlier_versions_the_labels_count(folder, monkeypatch):
    store, data = folder / "s.zarr", open_dataset(folder / "set.toml")
    with monkeypatch.context() as earlier:
        earlier.setattr(reading, "own_rows", lambda *_: {})
        for name in NAMES:
            shutil.rmtree(store / "labels" / name)
        assert extract(data, recipe(), store).done == list(NAMES)
    assert "rows" not in FeatureStore.open(store).marker("labels", "v1")["source"]["annotation"]
    assert extract(data, recipe(), store, deep=True).skipped == list(NAMES)
    data = write(folder, [*lines(), "v2,8,0.9,0.9,train"])
    told = extract(data, recipe(), store)
    assert (list(told.changed), told.skipped) == (["v2"], ["v1", "v3"])
    assert extract(data, recipe(), store, refresh=True).done == ["v2"]
    assert extract(data, recipe(), store, deep=True).skipped == list(NAMES)
    # Labels that cannot be read, or rows that do not fit any more, are no reason to think that nothing has changed.
    shutil.rmtree(store / "labels" / "v1" / "value" / "c")
    data = write(folder, [*lines(), "v2,8,0.9,0.9,train", "v3,900,0.9,0.9,train"])
    assert list(extract(data, recipe(), store).changed) == ["v1", "v3"]
