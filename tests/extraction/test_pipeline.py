"""An extraction writes what the data set says, does nothing twice, survives faults and kills, and refuses mixtures."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.extraction.conftest import TINY, by_name, files_below, labelled, touch_later
from vaprompt.datasets.annotation import read_annotation
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.errors import FingerprintError, StoreError, TargetError, VapromptError, WeightsError
from vaprompt.extraction import local
from vaprompt.extraction.encode_media import NO_SOUND, encode_media
from vaprompt.extraction.pipeline import extract
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.media.audio import has_audio
from vaprompt.media.video import frame_times
from vaprompt.recipes import read_recipe, shipped
from vaprompt.store import FeatureStore


@pytest.fixture
def no_encoders(monkeypatch):
    """Make it an error to load an encoder."""

    def refuse(*_):
        raise AssertionError("an encoder was loaded")

    monkeypatch.setattr(local, "image_encoder", refuse)
    monkeypatch.setattr(local, "audio_encoder", refuse)


@pytest.fixture
def begun(store, tmp_path) -> Path:
    """Return a copy of the finished store that a test may change."""
    return Path(shutil.copytree(store, tmp_path / "begun.zarr", copy_function=shutil.copy2))


def one_line(error: pytest.ExceptionInfo[VapromptError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_video_is_there_with_its_split_and_labels(dataset, store):
    read = FeatureStore.open(store)
    assert read.dataset == {"name": dataset.name, "layout": "affwild2", "faces": "crops"}
    assert read.videos() == sorted(video.name for video in dataset.videos)
    invalid = 0
    for video in dataset.videos:
        labels = read.labels(video.name)
        assert read.split(video.name) == video.split
        np.testing.assert_array_equal(labels.time_F, frame_times(video.media)[: len(labels.time_F)])
        if video.annotation is None:
            assert np.all(labels.value_F2 == -5)
            assert not labels.valid_F.any()
        else:
            annotated = read_annotation(video.annotation)
            kept = len(labels.valid_F)
            np.testing.assert_array_equal(labels.value_F2, annotated.value_F2[:kept])
            np.testing.assert_array_equal(labels.valid_F, annotated.valid_F[:kept])
            np.testing.assert_array_equal(labels.valid_F, labels.value_F2[:, 0] != -5)
            invalid += int(np.sum(~labels.valid_F))
    assert invalid > 0


def test_the_store_holds_what_encode_media_gives(dataset, recipe, store):
    read = FeatureStore.open(store)
    video = dataset.videos[-1]
    features = encode_media(
        video.media, recipe, image_encoder(recipe.image), audio_encoder(recipe.audio), crops=video.crops
    )
    np.testing.assert_array_equal(read.image(video.name).embedding_ND, features.image.embedding_ND)
    np.testing.assert_array_equal(read.image(video.name).frame_N, features.image.frame_N)
    np.testing.assert_array_equal(read.audio(video.name).embedding_WSD, features.audio.embedding_WSD)
    np.testing.assert_array_equal(read.audio(video.name).end_W, features.audio.end_W)


def test_the_store_knows_what_made_it(dataset, recipe, store):
    read = FeatureStore.open(store)
    assert ExtractRecipe.model_validate(read.recipe) == recipe
    assert read.fingerprint("image") == {**image_encoder(recipe.image).fingerprint, "faces": "crops", "frames": "all"}
    assert read.fingerprint("audio") == audio_encoder(recipe.audio).fingerprint
    assert read.info()["made_by"].keys() >= {"vaprompt", "torch", "zarr"}
    for stream in ("image", "audio", "labels"):
        for video in dataset.videos:
            made_by = read.marker(stream, video.name)["made_by"]
            assert made_by == {**read.info()["made_by"], "host": socket.gethostname(), "device": made_by["device"]}
            assert made_by["device"].startswith("cpu")
    source = read.marker("labels", labelled(dataset).name)["source"]
    assert source["annotation"]["sha256"]
    assert source["media"]["bytes"] == labelled(dataset).media.stat().st_size
    assert str(dataset.root) not in (store / "zarr.json").read_text()


def test_prompts_are_embedded_and_more_can_be_added(dataset, recipe, begun):
    read = FeatureStore.open(begun)
    assert list(read.text()) == recipe.prompts.texts()
    assert len(read.text()) == 27
    encoder = image_encoder(recipe.image)
    np.testing.assert_allclose(np.stack(list(read.text().values())), encoder.encode_text(list(read.text())), atol=1e-5)
    more = recipe.model_copy(update={"prompts": recipe.prompts.model_copy(update={"phrases": ("bored", "happy")})})
    extract(dataset, more, begun)
    assert len(FeatureStore.open(begun).text()) == 27 + 6
    assert FeatureStore.open(begun).recipe["prompts"]["phrases"] == ["bored", "happy"]


def test_a_video_without_sound_is_noted(dataset, store):
    silent = [video.name for video in dataset.videos if not has_audio(video.media)]
    assert len(silent) == 1
    assert FeatureStore.open(store).notes(silent[0]) == [NO_SOUND]


def test_a_second_run_loads_nothing_and_writes_nothing(dataset, recipe, begun, no_encoders):
    before = {file: file.stat().st_mtime_ns for file in begun.rglob("*") if file.is_file()}
    report = extract(dataset, recipe, begun)
    assert report.skipped == [video.name for video in dataset.videos]
    assert report.done == []
    assert report.failed == {}
    assert [NO_SOUND] in report.notes.values()
    assert {file: file.stat().st_mtime_ns for file in begun.rglob("*") if file.is_file()} == before


LOOKED = """
import sys
from vaprompt.cli.main import run
code = run(sys.argv[1:])
print(code, [name for name in ("torch", "open_clip", "transformers") if name in sys.modules], file=sys.stderr)
"""


def test_a_command_with_nothing_to_do_does_not_wait_for_torch(dataset, begun):
    changes = [part for change in TINY for part in ("--set", change)]
    command = [sys.executable, "-c", LOOKED, "extract", str(dataset.root), "--store", str(begun), *changes]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ})
    assert f"{len(dataset.videos)} were there before" in done.stdout
    assert done.stderr.splitlines()[-1] == "0 []"


def test_only_what_is_missing_is_made_again(dataset, recipe, begun, store, no_encoders, monkeypatch):
    monkeypatch.setattr(local, "audio_encoder", audio_encoder)
    name = dataset.videos[1].name
    shutil.rmtree(begun / "audio" / name)
    shutil.rmtree(begun / "labels" / dataset.videos[2].name)
    report = extract(dataset, recipe, begun)
    assert report.done == [name, dataset.videos[2].name]
    assert files_below(begun) == files_below(store)


def test_a_limit_takes_the_first_videos_and_the_next_run_the_rest(dataset, recipe, tmp_path, store):
    first = extract(dataset, recipe, tmp_path / "s.zarr", limit=2)
    assert first.done == [video.name for video in dataset.videos[:2]]
    second = extract(dataset, recipe, tmp_path / "s.zarr")
    assert second.skipped == first.done
    assert files_below(tmp_path / "s.zarr") == files_below(store)


KILLED = """
import os, signal, sys
from pathlib import Path
from vaprompt.datasets.description import open_dataset
from vaprompt.extraction import local, pipeline
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.recipes import read_recipe
from vaprompt.store.writing import GroupWriter
publish, left = GroupWriter.publish, int(sys.argv[3])
def counted(self, marker):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    publish(self, marker)
GroupWriter.publish = counted
pipeline.extract(open_dataset(Path(sys.argv[1])), read_recipe(ExtractRecipe, None, sys.argv[4:]), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_extraction_ends_like_an_undisturbed_one(dataset, recipe, store, tmp_path):
    target = tmp_path / "killed.zarr"
    command = [sys.executable, "-c", KILLED, str(dataset.root), str(target), "6", *TINY]
    ended = subprocess.run(command, check=False, env={**os.environ})
    assert ended.returncode == -signal.SIGKILL
    assert len(FeatureStore.open(target).videos()) < len(dataset.videos)
    extract(dataset, recipe, target)
    assert files_below(target) == files_below(store)


def damaged_media(video, kind: str) -> None:
    content = video.media.read_bytes()
    video.media.write_bytes(
        {"empty": b"", "text": b"not a video\n" * 99, "cut": content[: len(content) * 2 // 3]}[kind]
    )


@pytest.mark.parametrize("kind", ["empty", "text", "cut"])
def test_a_video_that_fails_is_recorded_and_the_others_go_on(own, recipe, tmp_path, kind):
    some = (labelled(own), own.videos[-1])
    few = replace(own, videos=some)
    good = some[0].media.read_bytes()
    damaged_media(some[0], kind)
    report = extract(few, recipe, tmp_path / "s.zarr")
    assert report.done == [some[1].name]
    assert list(report.failed) == [some[0].name]
    assert some[0].media.name in report.failed[some[0].name]
    assert "\n" not in report.failed[some[0].name]
    read = FeatureStore.open(tmp_path / "s.zarr")
    assert read.failed() == report.failed
    assert read.videos() == [some[1].name]
    assert not (read.path / ".aside").exists()

    some[0].media.write_bytes(good)
    again = extract(few, recipe, tmp_path / "s.zarr")
    assert again.done == [some[0].name]
    assert FeatureStore.open(tmp_path / "s.zarr").failed() == {}


def test_a_bad_annotation_fails_before_anything_is_encoded(own, recipe, begun, no_encoders):
    video = labelled(own)
    video.annotation.write_text("valence,arousal\n0.1,7.3\n")
    touch_later(video.annotation)
    shutil.rmtree(begun / "image" / video.name)
    report = extract(own, recipe, begun)
    assert list(report.failed) == [video.name]
    assert f"{video.annotation}:2" in report.failed[video.name]


def test_an_annotation_of_another_length_is_cut_or_refused(own, recipe, begun, no_encoders):
    video = labelled(own)
    lines = video.annotation.read_text().splitlines()
    frames = len(frame_times(video.media))
    video.annotation.write_text("\n".join(lines[: frames - 2]) + "\n")
    touch_later(video.annotation)
    report = extract(own, recipe, begun, refresh=True)
    read = FeatureStore.open(begun)
    assert report.done == [video.name]
    assert len(read.labels(video.name).valid_F) == frames - 3
    assert f"{frames - 3} annotation rows, {frames} decoded frames" in report.notes[video.name][0]
    video.annotation.write_text("\n".join(lines[: frames - 20]) + "\n")
    touch_later(video.annotation)
    report = extract(own, recipe, begun, refresh=True)
    assert f"{frames - 21} rows" in report.failed[video.name]
    assert f"{frames} frames" in report.failed[video.name]


def test_a_changed_source_is_told_and_made_again_when_asked_and_a_touched_one_is_not(own, recipe, begun, no_encoders):
    video = labelled(own)
    touch_later(video.annotation)
    touch_later(video.media)
    assert extract(own, recipe, begun).done == []
    lines = video.annotation.read_text().splitlines()
    video.annotation.write_text("\n".join([lines[0], "0.5,-0.5", *lines[2:]]) + "\n")
    touch_later(video.annotation)
    before = files_below(begun)
    report = extract(own, recipe, begun)
    assert report.done == []
    assert list(report.changed) == [video.name]
    assert report.changed[video.name].startswith(f"annotation {video.annotation.name} ")
    assert files_below(begun) == before
    again = extract(own, recipe, begun, refresh=True)
    assert again.done == [video.name]
    assert again.changed == {}
    np.testing.assert_array_equal(FeatureStore.open(begun).labels(video.name).value_F2[0], [0.5, -0.5])


def test_videos_without_media_or_crops_are_failures_of_their_own(dataset, recipe, begun, no_encoders):
    first, second = dataset.videos[0], dataset.videos[2]
    for video in (first, second):
        shutil.rmtree(begun / "image" / video.name)
    lacking = replace(dataset, videos=(replace(first, media=None), replace(second, crops=None)))
    report = extract(lacking, recipe, begun)
    assert "no media file" in report.failed[first.name]
    assert "no face crops" in report.failed[second.name]


def test_a_store_of_another_recipe_is_refused_with_the_fields(dataset, recipe, begun, no_encoders):
    before = files_below(begun)
    other = read_recipe(ExtractRecipe, None, [*TINY, "image.weights=random:1", "image_rate=5"])
    with pytest.raises(FingerprintError) as error:
        extract(dataset, other, begun)
    assert "weights: random:0 here, random:1 asked for" in one_line(error)
    assert "frames: all here, 5.0 asked for" in one_line(error)
    slower = read_recipe(ExtractRecipe, None, [*TINY, "audio.hop=1.5"])
    with pytest.raises(FingerprintError, match=r"hop: 0\.7 here, 1\.5 asked for"):
        extract(dataset, slower, begun)
    with pytest.raises(FingerprintError, match="faces: crops here, frames asked for"):
        extract(replace(dataset, faces="frames"), recipe, begun)
    assert files_below(begun) == before


def test_batch_sizes_are_no_part_of_the_fingerprint(dataset, begun, no_encoders):
    other = read_recipe(ExtractRecipe, None, [*TINY, "image.batch=3", "audio.batch=2"])
    assert len(extract(dataset, other, begun).skipped) == len(dataset.videos)


def test_missing_weights_leave_no_store(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(WeightsError, match="weights fetch") as error:
        extract(dataset, read_recipe(ExtractRecipe, shipped("extract", "paper")), tmp_path / "s.zarr")
    one_line(error)
    assert not (tmp_path / "s.zarr").exists()


def test_an_unwritable_target_is_one_line_and_leaves_nothing(dataset, recipe, tmp_path):
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "file", tmp_path / "file" / "s.zarr"):
        with pytest.raises(TargetError) as error:
            extract(dataset, recipe, target)
        assert str(tmp_path / "file") in one_line(error)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("place", ["zarr.json", "image/zarr.json", "audio/{}/zarr.json", "text/zarr.json"])
def test_damaged_metadata_is_one_line(dataset, recipe, begun, place, no_encoders):
    file = begun / place.format(dataset.videos[0].name)
    file.write_text("{")
    with pytest.raises(StoreError) as error:
        extract(dataset, recipe, begun)
    assert str(file) in one_line(error)


def test_a_person_who_shares_a_video_shares_its_sound(dataset, store):
    right = by_name(dataset, next(video.name for video in dataset.videos if video.name.endswith("_right")))
    plain = next(video for video in dataset.videos if video.media == right.media and video is not right)
    read = FeatureStore.open(store)
    np.testing.assert_array_equal(read.audio(right.name).embedding_WSD, read.audio(plain.name).embedding_WSD)
    assert not np.array_equal(read.image(right.name).embedding_ND[0], read.image(plain.name).embedding_ND[0])


def test_a_recipe_survives_its_store(recipe):
    assert ExtractRecipe.model_validate(json.loads(json.dumps(recipe.model_dump(mode="json")))) == recipe


@pytest.mark.slow
def test_the_papers_recipe_runs_with_full_size_networks(dataset, tmp_path):
    paper = read_recipe(
        ExtractRecipe,
        shipped("extract", "paper"),
        ["image.weights=random:0", "audio.weights=random:0"],
    )
    report = extract(dataset, paper, tmp_path / "s.zarr", limit=2)
    assert len(report.done) == 2
    read = FeatureStore.open(tmp_path / "s.zarr")
    for video in read.videos():
        assert read.image(video).embedding_ND.shape[1] == 512
        assert read.audio(video).embedding_WSD.shape[1:] == (101, 768)
        assert read.audio(video).end_W[0] == -2
    assert all(vector.shape == (512,) for vector in read.text().values())


@pytest.mark.slow
def test_the_baselines_recipe_runs_with_full_size_networks(dataset, tmp_path):
    baseline = read_recipe(ExtractRecipe, shipped("extract", "baseline"), ["image.weights=random:0", "image_rate=2"])
    assert len(extract(dataset, baseline, tmp_path / "s.zarr", limit=1).done) == 1
    read = FeatureStore.open(tmp_path / "s.zarr")
    assert read.audio(read.videos()[0]).embedding_WSD.shape[1:] == (256, 128)
