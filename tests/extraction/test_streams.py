"""A second encoder beside the first in one store: extracted, shared where it is the same, trained on, told apart."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.cli.calling import call
from tests.extraction.conftest import files_below
from tests.extraction.forge import FRAMES, FakeImages, FakeSounds, tiny_dataset, write_tiny
from vaprompt.errors import FingerprintError, RunError, StoreError
from vaprompt.evaluation.crossvalidation import FoldedStore
from vaprompt.evaluation.evaluate import evaluate
from vaprompt.extraction import local
from vaprompt.extraction.pipeline import extract
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.prediction import predict
from vaprompt.recipes import read_recipe
from vaprompt.store import FeatureStore
from vaprompt.store.layout import read_attributes, write_attributes
from vaprompt.store.storage import Folder
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.run import train
from vaprompt.training.runs import load_run

TINY = ("image.model=embedded", "image.weights=random:0", "audio.model=embedded", "audio.weights=random:0")
SMALL = ("window.seconds=0.12", "window.stride=0.04", "window.frames=2", "epochs=1", "batch=4", "model.width=8")
NARROW = ("model.fusion.heads=1", "model.fusion.feedforward=8", "model.temporal.units=8", "model.head.hidden=8")


class OtherImages(FakeImages):
    """Sees twice as much."""

    dim = 6

    def encode(self, image_BHWC):
        return super().encode(image_BHWC).repeat(1, 2) + 1

    def encode_text(self, texts):
        return super().encode_text(texts).repeat(1, 2) + 1


@pytest.fixture(scope="module", autouse=True)
def fakes():
    """Let the weights' name choose between two fakes."""

    def image_encoder(asked, _):
        return (OtherImages if asked.weights == "random:1" else FakeImages)(0.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "image_encoder", image_encoder)
        patch.setattr(local, "audio_encoder", lambda *_: FakeSounds())
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_dataset(write_tiny(tmp_path_factory.mktemp("streams") / "data", videos=5), videos=5)


def recipe(*changes: str) -> ExtractRecipe:
    return read_recipe(ExtractRecipe, None, [*TINY, *changes])


OTHER = "image.weights=random:1"


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "s.zarr"
    extract(data, recipe(), path)
    extract(data, recipe(OTHER), path, stream="b32")
    return path


@pytest.fixture
def store(made, tmp_path):
    return shutil.copytree(made, tmp_path / "s.zarr")


def trained(store, run, *changes: str):
    return train(store, read_recipe(TrainRecipe, None, [*SMALL, *NARROW, *changes]), run, device="cpu")


def test_the_second_stream_stands_beside_the_first(data, tmp_path, store):
    alone = tmp_path / "alone.zarr"
    extract(data, recipe(), alone)
    first, second = FeatureStore.open(store), FeatureStore.open(store, "b32")
    assert first.videos() == second.videos() == ["v1", "v2", "v3", "v4"]
    for video in first.videos():
        np.testing.assert_array_equal(
            first.image(video).embedding_ND, FeatureStore.open(alone).image(video).embedding_ND
        )
        assert second.image(video).embedding_ND.shape == (FRAMES, 6)
        assert second.labels(video).time_F.tolist() == first.labels(video).time_F.tolist()
    assert {vector.shape for vector in first.text().values()} == {(3,)}
    assert {vector.shape for vector in second.text().values()} == {(6,)}
    assert first.text().keys() == second.text().keys()
    assert first.recipe["image"]["weights"] == "random:0"
    assert second.recipe["image"]["weights"] == "random:1"
    assert first.fingerprint("image")["weights"] == "random:0"
    assert second.fingerprint("image")["weights"] == "random:1"
    before = files_below(alone)
    assert {
        name: content for name, content in files_below(store).items() if name in before and name != "zarr.json"
    } == {name: content for name, content in before.items() if name != "zarr.json"}


def test_what_is_the_same_is_shared_and_not_made_again(store):
    assert sorted(path.name for path in store.iterdir() if path.is_dir()) == [
        *("audio", "failed", "failed.b32", "image", "image.b32", "labels", "text", "text.b32")
    ]


def test_a_second_run_of_each_does_nothing(data, store, monkeypatch):
    monkeypatch.setattr(local, "image_encoder", None)
    whole = replace(data, videos=data.videos[:4])
    before = files_below(store)
    assert extract(whole, recipe(), store).skipped == ["v1", "v2", "v3", "v4"]
    assert extract(whole, recipe(OTHER), store, stream="b32").skipped == ["v1", "v2", "v3", "v4"]
    assert files_below(store) == before


def test_each_stream_keeps_its_fingerprint(data, store):
    before = files_below(store)
    with pytest.raises(FingerprintError, match=r"image: .*weights: random:0 here, random:1 asked for.*--stream NAME"):
        extract(data, recipe(OTHER), store)
    with pytest.raises(FingerprintError, match=r"image\.b32: .*weights: random:1 here, random:0 asked for"):
        extract(data, recipe(), store, stream="b32")
    with pytest.raises(StoreError, match="holds already, under no name"):
        extract(data, recipe(), store, stream="another")
    assert files_below(store) == before


def test_a_store_can_begin_with_a_named_stream(data, tmp_path):
    path = tmp_path / "s.zarr"
    extract(data, recipe(OTHER), path, stream="b32")
    assert FeatureStore.open(path, "b32").videos() == ["v1", "v2", "v3", "v4"]
    with pytest.raises(StoreError, match=r"under no name; the names that have one: b32; .*--set stream=b32"):
        trained(path, tmp_path / "run")
    extract(data, recipe(), path)
    assert FeatureStore.open(path).image("v1").embedding_ND.shape == (FRAMES, 3)


def test_a_stream_of_sound_alone_has_no_pictures_under_any_name(data, tmp_path):
    heard, path = replace(data, modalities=("audio",)), tmp_path / "s.zarr"
    extract(heard, recipe(), path)
    extract(heard, recipe("audio.weights=random:1"), path, stream="other")
    about = read_attributes(Folder(path), "")
    assert about is not None
    assert about["streams"]["other"]["own"] == ["audio"]
    with pytest.raises(StoreError, match=r"has no stream 'image' \(streams that it has: audio, labels\)"):
        trained(path, tmp_path / "run")


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "..", "a b", "x" * 65])
def test_names_that_cannot_be_folders_are_refused(data, tmp_path, name):
    with pytest.raises(StoreError, match="cannot be the name of a stream"):
        extract(data, recipe(), tmp_path / "s.zarr", stream=name)
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize("streams", [{"b32": 3}, {"b32": {"own": ["../.."], "recipe": {}}}, {"../x": {"own": []}}])
def test_a_hostile_root_names_no_other_folder(store, streams):
    write_attributes(store, {**read_attributes(Folder(store)), "streams": streams})
    for name in ("b32", "../x"):
        with pytest.raises(StoreError, match="has no stream"):
            FeatureStore.open(store, name)
    assert FeatureStore.open(store).videos() == ["v1", "v2", "v3", "v4"]


def test_a_run_on_the_second_stream_knows_it(store, tmp_path):
    trained(store, tmp_path / "first")
    trained(store, tmp_path / "second", "stream=b32")
    first, second = load_run(tmp_path / "first"), load_run(tmp_path / "second")
    assert (first.facts["dims"]["image"], second.facts["dims"]["image"]) == (3, 6)
    assert second.facts["recipe"]["stream"] == "b32"
    assert "stream" not in first.facts["recipe"]
    assert second.facts["extraction"]["image"]["weights"] == "random:1"
    assert second.facts["store"]["fingerprints"]["image"]["weights"] == "random:1"
    for run in (tmp_path / "first", tmp_path / "second"):
        assert evaluate(run, device="cpu").result["official"]["frames"] == FRAMES
    with pytest.raises(RunError, match=r"differs in stream \(b32 there, None asked for\)"):
        trained(store, tmp_path / "second")


def test_a_stream_of_another_state_of_the_file_is_neither_trained_nor_scored_on(data, tmp_path, store):
    run, own = tmp_path / "run", shutil.copytree(data.root, tmp_path / "data")
    moved = tiny_dataset(own, videos=5)
    moved = replace(moved, videos=moved.videos[:4])
    trained(store, run, "stream=b32")
    with (own / "v2.mp4").open("ab") as media:
        media.write(b"more")
    assert extract(moved, recipe(), store, refresh=True).done == ["v2"]
    trained(store, tmp_path / "first")
    assert evaluate(tmp_path / "first", split="both", device="cpu").result["official"]["frames"] == FRAMES
    said = r"image features of video 'v2' that are of another state of its file than its labels; .* --ref"
    with pytest.raises(StoreError, match=said):
        trained(store, tmp_path / "second", "stream=b32")
    with pytest.raises(StoreError, match=said):
        evaluate(run, split="both", device="cpu")
    assert extract(moved, recipe(OTHER), store, stream="b32", refresh=True).done == ["v2"]
    trained(store, tmp_path / "second", "stream=b32")


def test_another_grid_of_sound_shares_the_pictures(data, store, monkeypatch):
    monkeypatch.setattr(local, "image_encoder", None)
    data = replace(data, videos=data.videos[:4])
    report = extract(data, recipe("audio.hop=0.1"), store, stream="dense")
    assert report.done == ["v1", "v2", "v3", "v4"]
    dense, plain = FeatureStore.open(store, "dense"), FeatureStore.open(store)
    assert len(dense.audio("v1").end_W) > len(plain.audio("v1").end_W)
    assert (store / "audio.dense").is_dir()
    assert not (store / "image.dense").exists()
    assert dense.text().keys() == plain.text().keys()


def test_predictions_are_made_with_the_streams_encoders(data, store, tmp_path, monkeypatch):
    seen = []

    def asked_for(asked, **_):
        seen.append(asked.weights)
        return OtherImages(0.0)

    monkeypatch.setattr(predict, "image_encoder", asked_for)
    monkeypatch.setattr(predict, "audio_encoder", lambda *_, **__: FakeSounds())
    trained(store, tmp_path / "run", "stream=b32")
    report = predict.predict(tmp_path / "run", [data.videos[0].media], tmp_path / "out", device="cpu")
    assert seen == ["random:1"]
    assert len(report.done[0].time_F) == FRAMES


def test_folds_are_made_of_the_stream(store):
    assert FoldedStore.of(FeatureStore.open(store, "b32"), {}).image("v1").embedding_ND.shape == (FRAMES, 6)


def test_a_stream_that_is_not_there_is_one_line_that_names_those_that_are(store, tmp_path):
    outcome = call("train", store, "--run", tmp_path / "run", "--set", "stream=b16")
    assert outcome.code == 2
    assert "has no stream 'b16' (names that it has: b32; streams: image, audio, labels)" in outcome.fault


def test_info_shows_every_stream(store):
    shown = call("store", "info", store, "--json")
    assert set(shown.json["streams"]) == {"image", "audio", "labels", "image.b32"}
    assert shown.json["streams"]["image.b32"]["videos"] == 4
    assert shown.json["names"]["b32"]["image"]["weights"] == "random:1"
    assert set(shown.json["failed"]) == {"v5", "v5, b32"}
    assert "image.b32" in call("store", "info", store).out
