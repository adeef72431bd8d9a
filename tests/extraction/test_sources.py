"""What has changed since a video was extracted is noticed, told, and made again only when that is asked for."""

import json
import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.extraction.conftest import files_below, touch_later
from tests.extraction.forge import FakeSounds, tiny_dataset, write_tiny
from tests.extraction.test_streams import recipe
from tests.media.clips import write_clip
from tests.rights import open_folder, without_rights
from vaprompt.datasets.base import Dataset, Rates
from vaprompt.errors import RecipeError
from vaprompt.extraction import engine, local, sources
from vaprompt.extraction.pipeline import extract
from vaprompt.extraction.plan import Examiner, Shard, plan
from vaprompt.store import FeatureStore

pytestmark = pytest.mark.usefixtures("fake_encoders")


def four_videos(root: Path) -> Dataset:
    """Return the four videos that can be read, the last of them without annotation."""
    whole = tiny_dataset(root, videos=5)
    return replace(whole, videos=whole.videos[:4])


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Return a folder with the videos and their store."""
    folder = tmp_path_factory.mktemp("sources")
    report = extract(four_videos(write_tiny(folder / "data", videos=5)), recipe(), folder / "s.zarr")
    assert report.done == ["v1", "v2", "v3", "v4"]
    return folder


@pytest.fixture
def data(made, tmp_path) -> Dataset:
    return four_videos(shutil.copytree(made / "data", tmp_path / "data"))  # the files keep their times


@pytest.fixture
def store(made, tmp_path) -> Path:
    return shutil.copytree(made / "s.zarr", tmp_path / "s.zarr")


def swapped(file: Path, *, keep_time: bool = False) -> None:
    """Change a byte of a file, and nothing else that can be seen from outside but its time."""
    state, content = file.stat(), bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    if keep_time:
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    else:
        touch_later(file)


def test_another_size_is_told_at_once_and_nothing_is_touched(data, store):
    with (data.root / "v2.mp4").open("ab") as media:
        media.write(b"more")
    before = files_below(store)
    report = extract(data, recipe(), store)
    assert report.skipped == ["v1", "v3", "v4"]
    assert list(report.changed) == ["v2"]
    assert report.changed["v2"].startswith("media v2.mp4 has ")
    assert files_below(store) == before


def test_another_content_of_the_same_size_and_time_is_found_by_digest_alone(data, store):
    swapped(data.root / "v1.txt", keep_time=True)
    assert extract(data, recipe(), store).changed == {}
    told = extract(data, recipe(), store, deep=True)
    assert told.changed == {"v1": "annotation v1.txt has another content of the same size"}
    extract(data, recipe(), store, deep=True, refresh=True)
    assert extract(data, recipe(), store, deep=True).changed == {}


def cropped(data: Dataset, root: Path, frames: int) -> Dataset:
    """Return the videos with face crops, whose sizes are all the same."""
    videos = []
    for video in data.videos:
        crops = root / "crops" / video.name
        crops.mkdir(parents=True)
        for frame in range(1, frames + 1):
            draw_crop(crops / f"{frame:05}.png", frame)
        videos.append(replace(video, crops=crops))
    return replace(data, faces="crops", videos=tuple(videos))


def draw_crop(path: Path, shade: int) -> None:
    Image.new("RGB", (16, 16), (shade * 20, 9, 9)).save(path, compress_level=0)


def test_a_crop_that_is_overwritten_in_place_is_found_by_digest(data, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SAMPLE", 2)  # of four
    faces, path = cropped(data, tmp_path, 4), tmp_path / "crops.zarr"
    extract(faces, recipe(), path)
    crop = tmp_path / "crops/v1/00002.png"
    size, folder = crop.stat().st_size, crop.parent.stat()
    draw_crop(crop, 10)
    assert crop.stat().st_size == size
    assert crop.parent.stat().st_mtime_ns == folder.st_mtime_ns
    assert extract(faces, recipe(), path).changed == {}
    assert extract(faces, recipe(), path, deep=True).changed == {"v1": "crops v1 has another content of the same size"}
    before = FeatureStore.open(path).image("v1").embedding_ND
    report = extract(faces, recipe(), path, deep=True, refresh=True)
    assert report.done == ["v1"]
    differing = np.flatnonzero((FeatureStore.open(path).image("v1").embedding_ND != before).any(axis=1))
    assert differing.tolist() == [1]


def test_crops_that_are_all_written_anew_in_place_are_told_at_once(data, tmp_path):
    faces, path = cropped(data, tmp_path, 8), tmp_path / "crops.zarr"
    extract(faces, recipe(), path)
    folder = (tmp_path / "crops/v1").stat()
    for video in ("v1", "v2", "v3"):
        for crop in sorted((tmp_path / "crops" / video).iterdir()):
            if video == "v1":  # of other sizes
                Image.new("RGB", (18, 18), (7, 9, 9)).save(crop, compress_level=0)
            elif video == "v2":
                draw_crop(crop, 11)
            touch_later(crop)
    assert (tmp_path / "crops/v1").stat().st_mtime_ns == folder.st_mtime_ns
    report = extract(faces, recipe(), path)
    assert report.changed.keys() == {"v1", "v2"}  # the third's were only touched
    assert re.fullmatch(r"crops v1 holds \d+ bytes, and held \d+", report.changed["v1"])
    assert report.changed["v2"] == "crops v2 has another content of the same size"
    assert extract(faces, recipe(), path, refresh=True).done == ["v1", "v2"]
    assert extract(faces, recipe(), path).changed == {}


@pytest.mark.parametrize("length", [1, 2, 3, 15, 16, 17, 2000])
def test_files_are_sampled_evenly_with_the_first_and_the_last(length):
    files = [Path(str(number)) for number in range(length)]
    found = [int(file.name) for file in sources._evenly(files)]
    assert (found[0], found[-1], len(set(found))) == (0, length - 1, min(length, sources.SAMPLE))
    gaps = np.diff(found)
    assert not gaps.size or gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("sample", ["x", [3], ["../secret"], ["\0"], ["gone.jpg"], {"a": 1}])
def test_a_sample_from_a_hostile_store_is_not_believed(tmp_path, sample):
    (tmp_path / "00001.jpg").write_bytes(b"x")
    kept = {**sources.facts(tmp_path), "sample": sample, "content": "another"}
    assert sources.change(kept, tmp_path) == f"{tmp_path.name} has another content of the same size"


def test_only_what_is_made_of_the_changed_file_is_made_again(data, store, monkeypatch):
    monkeypatch.setattr(local, "image_encoder", None)
    monkeypatch.setattr(local, "audio_encoder", None)
    annotation = data.root / "v2.txt"
    annotation.write_text(annotation.read_text().replace("0.2", "0.7"))
    touch_later(annotation)
    assert list(extract(data, recipe(), store).changed) == ["v2"]
    assert extract(data, recipe(), store, refresh=True).done == ["v2"]
    assert FeatureStore.open(store).labels("v2").value_F2[0, 0] == np.float32(0.7)


def test_another_split_is_told_and_costs_no_encoding(data, store, monkeypatch):
    monkeypatch.setattr(local, "image_encoder", None)
    monkeypatch.setattr(local, "audio_encoder", None)
    assert FeatureStore.open(store).split("v2") == "train"
    moved = replace(data, videos=tuple(replace(video, split="validation") for video in data.videos[:2]))
    assert extract(moved, recipe(), store).changed == {"v2": "it is of the validation split, and was of train"}
    assert FeatureStore.open(store).split("v2") == "train"
    assert extract(moved, recipe(), store, refresh=True).done == ["v2"]
    read = FeatureStore.open(store)
    assert [read.marker(stream, "v2")["split"] for stream in read.streams] == ["validation"] * 3
    assert extract(moved, recipe(), store).skipped == ["v1", "v2"]


def test_labels_that_come_later_are_told(data, store):
    later = replace(data.videos[3], annotation=data.root / "v3.txt")
    given = replace(data, videos=(*data.videos[:3], later))
    assert extract(given, recipe(), store).changed == {"v4": "it has an annotation, and had none"}
    extract(given, recipe(), store, refresh=True)
    assert FeatureStore.open(store).labels("v4").valid_F.all()


def test_a_video_that_comes_to_its_crops_later_is_told(data, tmp_path):
    faces, path = cropped(data, tmp_path, 4), tmp_path / "crops.zarr"
    looks = replace(faces, modalities=("image",))
    alone = replace(looks, videos=tuple(replace(video, media=None) for video in looks.videos), rates=Rates(30.0))
    assert extract(alone, recipe(), path).failed == {}
    first = replace(alone, videos=looks.videos[:1] + alone.videos[1:])
    for deep in (False, True):
        assert extract(first, recipe(), path, deep=deep).changed == {"v1": "it has a media file, and had none"}
    assert extract(first, recipe(), path, refresh=True).done == ["v1"]
    assert extract(first, recipe(), path, deep=True).changed == {}
    assert extract(alone, recipe(), path).changed == {}, "one that is gone counts as unchanged"


def test_a_video_of_which_something_is_missing_is_made_of_one_state_of_its_sources(data, store):
    shutil.rmtree(store / "audio/v1")
    shutil.copyfile(data.root / "v2.mp4", data.root / "v1.mp4")
    touch_later(data.root / "v1.mp4")
    report = extract(data, recipe(), store)
    assert report.done == ["v1"]
    read = FeatureStore.open(store)
    digests = {read.marker(stream, "v1")["source"]["media"]["sha256"] for stream in read.streams}
    assert digests == {read.marker("image", "v2")["source"]["media"]["sha256"]}


def replaced_by(file: Path, other: Path) -> None:
    """Put another file's content into a file's place, as a download that is finished does."""
    shutil.copyfile(other, file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)


def test_a_file_that_changes_while_it_is_read_is_told_next_and_made_again_in_all_streams(tmp_path, monkeypatch):
    longer = tmp_path / "longer.mp4"
    sound = np.sin(np.arange(16000) * 0.3)[:, None] * 0.3
    write_clip(longer, times_ms=tuple(range(0, 1600, 200)), size=(32, 32), sound=sound, sound_rate=16000)
    whole = four_videos(write_tiny(tmp_path / "data", videos=5))
    one = replace(whole, videos=whole.videos[:1])

    def load(*_):  # when the times of the first video are known, and before its pictures are read
        replaced_by(one.root / "v1.mp4", longer)
        return FakeSounds()

    with monkeypatch.context() as patch:
        patch.setattr(local, "audio_encoder", load)
        extract(one, recipe("image_rate=25"), tmp_path / "s.zarr")
    assert list(extract(one, recipe("image_rate=25"), tmp_path / "s.zarr").changed) == ["v1"]
    assert extract(one, recipe("image_rate=25"), tmp_path / "s.zarr", refresh=True).done == ["v1"]
    extract(one, recipe("image_rate=25"), tmp_path / "undisturbed.zarr")
    assert files_below(tmp_path / "s.zarr") == files_below(tmp_path / "undisturbed.zarr")


def test_a_file_that_changes_between_two_people_in_it_gives_each_the_sound_that_its_marker_says(tmp_path, monkeypatch):
    whole = four_videos(write_tiny(tmp_path / "data", videos=5))
    media = whole.root / "v1.mp4"
    two = replace(whole, videos=tuple(replace(video, media=media) for video in whole.videos[:2]))
    looked = Counter()

    def examine(examiner, video):
        looked[video.name] += 1
        if looked[video.name] == 2 and video.name == "v2":  # it is handed out, and the first is read
            replaced_by(media, whole.root / "v3.mp4")
        return found(examiner, video)

    found = Examiner.examine
    with monkeypatch.context() as patch:
        patch.setattr(engine, "READERS", 1)
        patch.setattr(Examiner, "examine", examine)
        assert extract(two, recipe(), tmp_path / "s.zarr").failed == {}
    assert extract(two, recipe(), tmp_path / "s.zarr", refresh=True).done == ["v1"]
    extract(two, recipe(), tmp_path / "undisturbed.zarr")
    assert files_below(tmp_path / "s.zarr") == files_below(tmp_path / "undisturbed.zarr")


def test_a_sound_that_is_removed_before_the_second_person_comes_to_it_is_heard_again(tmp_path, monkeypatch):
    whole = four_videos(write_tiny(tmp_path / "data", videos=5))
    two = replace(whole, videos=tuple(replace(video, media=whole.videos[0].media) for video in whole.videos[:2]))
    extract(two, recipe(), tmp_path / "s.zarr")
    FeatureStore.open(tmp_path / "s.zarr").remove("audio", "v2")
    looked = Counter()

    def examine(examiner, video):
        looked[video.name] += 1
        if looked[video.name] == 2:  # it is handed out; what `store verify --repair` can do at any moment:
            FeatureStore.open(tmp_path / "s.zarr").remove("audio", "v1")
        return found(examiner, video)

    found = Examiner.examine
    with monkeypatch.context() as patch:
        patch.setattr(Examiner, "examine", examine)
        assert extract(two, recipe(), tmp_path / "s.zarr").done == ["v2"]
    assert FeatureStore.open(tmp_path / "s.zarr").has("audio", "v2")


def test_a_failure_that_was_overcome_is_forgotten_though_the_run_was_killed_before_it_said_so(data, store):
    FeatureStore.open(store).record_failure("v1", "could not be read")
    report = extract(data, recipe(), store)
    assert "v1" in report.skipped
    assert FeatureStore.open(store).failed() == {}


def test_shards_hold_every_video_once_whatever_is_done_already(data, tmp_path, store):
    path = tmp_path / "sharded.zarr"
    made = [extract(data, recipe(), path, shard=Shard.parse(f"{index}/3")).done for index in (3, 1, 2)]
    assert made == [["v3"], ["v1", "v4"], ["v2"]]
    assert files_below(path) == files_below(store)
    assert extract(data, recipe(), path, shard=Shard(1, 3)).skipped == ["v1", "v4"]
    assert extract(data, recipe(), path, shard=Shard(9, 9)).skipped == []


@pytest.mark.parametrize(
    "text", ["", "1", "0/4", "5/4", "-1/4", "a/b", "1/0", "1/4/2", "1.5/4", " 1/4", "1/4\n", "²/4"]
)
def test_a_bad_shard_is_one_line(text):
    with pytest.raises(RecipeError, match=r"is not i/n with whole numbers") as error:
        Shard.parse(text)
    assert "\n" not in str(error.value)


def test_the_report_is_plain_json(data, store):
    touch_later(data.root / "v1.txt")
    assert json.loads(json.dumps(vars(extract(data, recipe(), store))))["changed"] == {}


def test_a_source_that_cannot_even_be_looked_at_costs_its_video_only(data, tmp_path):
    first = data.videos[0]
    first.media.unlink()
    # As a disk that fails, or a server that does not answer, it is more than not there.
    first.media.symlink_to("x" * 300)
    report = extract(data, recipe(), tmp_path / "new.zarr")
    assert report.done == ["v2", "v3", "v4"]
    assert report.failed == {"v1": f"{first.media}: cannot be read (File name too long); check the path and rights"}


def unreadable(file: Path) -> str:
    """Let a file be one that cannot even be looked at, as on a disk that fails; return what is said of it."""
    file.unlink()
    file.symlink_to("x" * 300)
    return f"{file}: cannot be read (File name too long); check the path and rights"


@pytest.mark.parametrize("refresh", [False, True])
def test_a_source_that_cannot_be_compared_costs_its_video_only(data, store, refresh):
    said = unreadable(data.root / "v1.mp4")
    swapped(data.root / "v2.txt")
    before = files_below(store)
    report = extract(data, recipe(), store, refresh=refresh)
    assert report.failed == {"v1": said}
    assert report.skipped == ["v3", "v4"]
    assert (report.done, list(report.changed)) == ((["v2"], []) if refresh else ([], ["v2"]))
    kept = {name: content for name, content in files_below(store).items() if "/v1/" in name and "failed" not in name}
    assert kept == {name: content for name, content in before.items() if "/v1/" in name}
    assert FeatureStore.open(store).failed().keys() == ({"v1"} if refresh else set())


def test_a_video_in_part_whose_source_cannot_be_compared_is_recorded_as_failed(data, store):
    shutil.rmtree(store / "labels/v1")
    shutil.rmtree(store / "labels/v3")
    said = unreadable(data.root / "v1.mp4")
    report = extract(data, recipe(), store)
    assert (report.done, report.failed) == (["v3"], {"v1": said})
    assert FeatureStore.open(store).failed() == {"v1": said}


def test_a_file_without_rights_costs_its_video_only(made):
    with open_folder() as folder:
        data = four_videos(shutil.copytree(made / "data", folder / "data"))
        touch_later(data.root / "v1.mp4")
        (data.root / "v1.mp4").chmod(0)
        store = FeatureStore.open(shutil.copytree(made / "s.zarr", folder / "s.zarr"))
        with without_rights():
            found = plan(Examiner(data, store))
    assert list(found.unreadable) == ["v1"]
    assert "v1.mp4: cannot be read (Permission denied)" in found.unreadable["v1"]
    assert found.done == ("v2", "v3", "v4")
