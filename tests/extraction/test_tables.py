"""Real clips with a table of labels made here: from a description to a store, and back to the data set's scale."""

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.planted import plant_store
from vaprompt.datasets.description import open_dataset
from vaprompt.errors import FingerprintError
from vaprompt.extraction.pipeline import extract
from vaprompt.media.video import frame_times
from vaprompt.prediction.predict import label_scale
from vaprompt.recipes import read_recipe, shipped
from vaprompt.store import FeatureStore
from vaprompt.store.layout import read_attributes, write_attributes
from vaprompt.store.storage import Folder
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.run import train
from vaprompt.training.runs import load_run

CLIPS = ("talk_25fps.mp4", "talk_vfr.mp4", "no_audio_stream.mp4")
SPLITS = dict(zip(CLIPS, ("train", "validation", "test"), strict=True))
RATE = 4.0
"""Rows a second: far fewer than frames."""
FIRST, LAST = 0.5, 3.5


def affect(time):
    """Return valence and arousal on the scale from 1 to 9; both are straight lines, as interpolation must give back."""
    return np.stack([1 + 2 * np.asarray(time), 9 - np.asarray(time)], axis=-1)


@pytest.fixture
def root(clips, tmp_path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    for name in CLIPS:
        (folder / name).symlink_to(clips / name)
    return folder


def describe(root: Path, *, layout: str = "csv", path: str = "labels.csv", more: str = "") -> Path:
    source = root.parent / f"{layout}.toml"
    source.write_text(
        f'name = "clips"\nlayout = "{layout}"\nroot = "set"\n[labels]\npath = "{path}"\nlabel_range = [1, 9]\n{more}'
    )
    return source


def write_rows(path: Path, header, rows) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as text:
        csv.writer(text).writerows([header, *rows])


def timed_rows(name: str):
    for time in np.arange(FIRST, LAST + 1e-9, 1 / RATE):
        valence, arousal = affect(time)
        yield name, f"{time:.3f}", f"{valence:.6f}", f"{arousal:.6f}", SPLITS[name]


def assert_labels(store: Path) -> None:
    read = FeatureStore.open(store)
    for name, split in SPLITS.items():
        video = Path(name).stem
        labels = read.labels(video)
        assert read.split(video) == split
        inside_F = (labels.time_F >= FIRST - 1e-3) & (labels.time_F <= LAST + 1e-3)
        np.testing.assert_array_equal(labels.valid_F, inside_F)
        expected_F2 = 2 * (affect(np.clip(labels.time_F, FIRST, LAST)) - 1) / 8 - 1
        # A row within a millisecond is taken for the frame itself, and the lines rise by half a unit a second at most.
        np.testing.assert_allclose(labels.value_F2[inside_F], expected_F2[inside_F], atol=5.1e-4)
        assert np.all(labels.value_F2[~inside_F] == -5)
        assert any("labelled from 0.50 to 3.50 s" in note for note in read.notes(video))


def test_one_table_of_times(root, recipe, tmp_path):
    rows = [row for name in CLIPS for row in timed_rows(name)]
    write_rows(root / "labels.csv", ("video", "time", "valence", "arousal", "split"), rows)
    source = describe(root)
    store = tmp_path / "clips.zarr"
    report = extract(open_dataset(source), recipe, store)
    assert report.failed == {}
    assert_labels(store)
    for name in CLIPS:
        np.testing.assert_array_equal(FeatureStore.open(store).labels(Path(name).stem).time_F, frame_times(root / name))
    assert FeatureStore.open(store).dataset["label_range"] == [1, 9]
    assert extract(open_dataset(source), recipe, store).skipped == [Path(name).stem for name in CLIPS]
    source.write_text(source.read_text().replace("[1, 9]", "[0, 9]"))
    with pytest.raises(FingerprintError, match="label_range"):
        extract(open_dataset(source), recipe, store)


def test_one_table_a_video_by_frames(root, recipe, tmp_path):
    """Every fifth frame is labelled, at the frame's own time, also where the rate varies."""
    for name in CLIPS:
        time_F = frame_times(root / name)
        rows = [(frame, *affect(time_F[frame - 1]).round(6), SPLITS[name]) for frame in range(1, len(time_F) + 1, 5)]
        write_rows(root / "labels" / f"{Path(name).stem}.csv", ("frame", "valence", "arousal", "split"), rows)
    store = tmp_path / "clips.zarr"
    source = describe(root, layout="csv-per-video", path="labels")
    source.write_text(source.read_text().replace("[1, 9]", "[-20, 20]"))
    assert extract(open_dataset(source), recipe, store).failed == {}
    for name in CLIPS:
        labels = FeatureStore.open(store).labels(Path(name).stem)
        last = 5 * ((len(labels.time_F) - 1) // 5)
        assert np.flatnonzero(~labels.valid_F).tolist() == list(range(last + 1, len(labels.time_F)))
        np.testing.assert_allclose(labels.value_F2[: last + 1], affect(labels.time_F[: last + 1]) / 20, atol=1e-5)


def test_a_faulty_row_fails_its_video_only(root, recipe, tmp_path):
    rows = [list(row) for name in CLIPS for row in timed_rows(name)]
    rows[2][2] = "9.5"
    write_rows(root / "labels.csv", ("video", "time", "valence", "arousal", "split"), rows)
    report = extract(open_dataset(describe(root)), recipe, tmp_path / "clips.zarr")
    assert list(report.failed) == ["talk_25fps"]
    assert f"{root / 'labels.csv'}:4: valence 9.5 is outside [1, 9]" in report.failed["talk_25fps"]
    assert report.done == ["talk_vfr", "no_audio_stream"]


def test_times_in_milliseconds_are_refused(root, recipe, tmp_path):
    rows = [(name, float(time) * 1000, *rest) for clip in CLIPS for name, time, *rest in timed_rows(clip)]
    write_rows(root / "labels.csv", ("video", "time", "valence", "arousal", "split"), rows)
    report = extract(open_dataset(describe(root)), recipe, tmp_path / "clips.zarr")
    assert report.done == []
    assert all("times are in seconds" in reason for reason in report.failed.values())


@pytest.mark.parametrize("scale", [None, [1.0, 9.0]])
def test_a_run_knows_the_scale_of_its_data_set(tmp_path, scale):
    store = plant_store(tmp_path / "planted.zarr", train=3, validation=1, seconds=20.0)
    dataset = FeatureStore.open(store).dataset
    if scale is not None:
        root = read_attributes(Folder(store))
        write_attributes(store, {**root, "dataset": {**dataset, "label_range": scale}})
    recipe = read_recipe(TrainRecipe, shipped("train", "demo"), ["epochs=1", "window.seconds=4"])
    train(store, recipe, tmp_path / "run", device="cpu")
    assert label_scale(load_run(tmp_path / "run")) == (tuple(scale) if scale else (-1.0, 1.0))
