"""Extraction of faces that are found in whole frames, for data sets without crops."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.faces.people import Scripted
from vaprompt.datasets.base import Dataset, Video
from vaprompt.datasets.description import open_dataset
from vaprompt.errors import DatasetError, DetectorError, FingerprintError
from vaprompt.extraction import fingerprints, reading
from vaprompt.extraction.pipeline import extract
from vaprompt.extraction.whose_face import whose_face
from vaprompt.faces import detector
from vaprompt.faces.search import find_faces
from vaprompt.faces.tracking import Person
from vaprompt.store import FeatureStore


def person(x: float) -> Person:
    return Person(np.zeros(1), np.array([[x, 0.5, -1.0, 0.0]]), np.zeros(1, np.int64), np.ones(1, np.int64), 1.0)


def test_left_and_right_are_told_by_place_and_a_single_name_is_the_most_prominent():
    media, own = Path("a.mp4"), Path("b_right.mp4")
    names = {"a": media, "a_right": media, "b_right": own, "c_left": Path("c.mp4"), "d": Path("d.mp4")}
    videos = {name: Video(name, "train", path, None, None) for name, path in names.items()}
    dataset = Dataset("some", "affwild2", Path(), "detect", tuple(videos.values()))
    right, left, small = people = [person(0.8), person(0.2), person(0.5)]
    expected = {"a": left, "a_right": right, "b_right": right, "c_left": left, "d": right}
    assert {name: whose_face(video, dataset, people) for name, video in videos.items()} == expected
    assert whose_face(videos["d"], dataset, [small]) is small
    with pytest.raises(DatasetError, match="one of two people"):
        whose_face(videos["a"], dataset, [small])
    with pytest.raises(DatasetError, match="shows no face"):
        whose_face(videos["d"], dataset, [])


def test_only_frames_with_a_face_are_encoded_and_a_video_without_one_is_listed(own, recipe, monkeypatch, tmp_path):
    description = tmp_path / "own.toml"
    description.write_text('name = "own"\nroot = "data"\nfaces = "detect"\n')
    dataset = open_dataset(description)
    assert dataset.faces == "detect"
    shared = [video.media for video in dataset.videos]
    alone = tuple(video for video in dataset.videos if shared.count(video.media) == 1)[:2]
    scripts = {
        alone[0].media: lambda time: [(0.9, 0.5, 0.3, 0.2)] if time < 1.1 else [],
        alone[1].media: lambda time: [],
    }
    scripted = lambda media, detector, face: find_faces(media, Scripted(scripts[media]), face)  # noqa: E731
    monkeypatch.setattr(reading, "find_faces", scripted)
    monkeypatch.setattr(reading, "CenterFace", lambda: Scripted(lambda time: []))
    monkeypatch.setattr(fingerprints, "detector_fingerprint", lambda: {"detector": "scripted"})
    report = extract(replace(dataset, videos=alone), recipe, tmp_path / "found.zarr")
    assert report.done == [alone[0].name]
    assert "shows no face" in report.failed[alone[1].name]
    store = FeatureStore.open(tmp_path / "found.zarr")
    image, labels = store.image(alone[0].name), store.labels(alone[0].name)
    assert image.time_N[0] == 0
    assert 0.8 < image.time_N[-1] < 1.3 < labels.time_F[-1]
    assert store.fingerprint("image")["face"]["interval"] == 0.2
    wider = recipe.model_copy(update={"face": recipe.face.model_copy(update={"scale": 1.3})})
    with pytest.raises(FingerprintError, match="face"):
        extract(replace(dataset, videos=alone), wider, tmp_path / "found.zarr")


def test_without_the_detector_nothing_is_begun(dataset, recipe, monkeypatch, tmp_path):
    monkeypatch.setattr(detector, "_installed", lambda package: False)
    with pytest.raises(DetectorError, match="pip install"):
        extract(replace(dataset, faces="detect"), recipe, tmp_path / "none.zarr")
    assert not (tmp_path / "none.zarr").exists()
