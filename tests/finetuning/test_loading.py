"""What loading processes bring is what the extraction's encoders were given, window by window, and faults are told."""

import errno
import os
import shutil
import signal
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faces.people import Scripted
from tests.media.clips import grey, write_clip
from vaprompt.datasets.base import Dataset, Video
from vaprompt.errors import DatasetError, FingerprintError, MediaError, TargetError, VapromptError
from vaprompt.extraction.pictures import face_pictures
from vaprompt.faces.recipe import FaceRecipe
from vaprompt.faces.search import find_faces
from vaprompt.finetuning import scratch
from vaprompt.finetuning.loading import load
from vaprompt.finetuning.material import Material, VideoWindows, files_of
from vaprompt.finetuning.recipe import AugmentationRecipe
from vaprompt.finetuning.requests import Fit, Load, Setup, Sound
from vaprompt.finetuning.workers import Workers
from vaprompt.media.audio import audio_windows
from vaprompt.media.crops import read_image
from vaprompt.media.logmel import log_mel
from vaprompt.media.recipes import LogMelRecipe
from vaprompt.media.resize import fitted
from vaprompt.store import FeatureStore

RATE, WINDOW = 16000, 1.0
FIT = Fit(size=40, resize="shortest", interpolation="bicubic, antialiased")
MEL = LogMelRecipe(frames=64)


def setup(folder: Path, **changes) -> Setup:
    fields = {
        "scratch": folder,
        "faces": "frames",
        "face": FaceRecipe(),
        "fit": FIT,
        "sound": Sound(window=WINDOW, mel=MEL),
        "augmentation": AugmentationRecipe(),
    }
    return Setup(**fields | changes)


def clip(folder: Path, *, start: float = 0.0, seconds: float = 2.0, name: str = "clip.mp4") -> Path:
    sound = 0.3 * np.random.default_rng(7).standard_normal((round(44100 * seconds), 2)).clip(-1, 1)
    return write_clip(folder / name, times_ms=range(0, 2000, 40), sound=sound, sound_start=start)


def windows_of(video: Video, rows: list[list[int]], ends: list[float]) -> VideoWindows:
    frame_M = np.arange(1, 51)
    return VideoWindows(
        video=video,
        frame_M=frame_M,
        time_M=(frame_M - 1) * 0.04,
        last=1.96,
        row_WT=np.array(rows),
        sound_end_W=np.array(ends),
    )


def dataset(root: Path, *videos: Video, faces: str = "frames") -> Dataset:
    return Dataset("own", "csv", root, faces, tuple(videos))


@pytest.mark.parametrize("start", [-0.3, 0.0, 0.5])
def test_a_window_of_whole_frames_and_its_sound(tmp_path, start):
    media = clip(tmp_path, start=max(0.0, start), seconds=1.0 if start else 2.0)
    video = Video("clip", "train", media, None, None)
    ends = [-0.5, 0.2, 1.0, 1.9]
    rows = [[0, 0, 3], [1, 4, 9], [20, 25, 29], [49, 49, 49]]
    (folder := tmp_path / "scratch").mkdir()
    material = Material(setup(folder), dataset(tmp_path, video), [windows_of(video, rows, ends)])
    with Workers(material.setup, 1 if start else 2) as workers:  # a process costs seconds: several once will do
        assert len(list(workers.prepare(material.missing()))) == 1
        assert material.missing() == []
        loaded = list(workers.windows(material.request(window) for window in range(4)))
    waves = list(audio_windows(media, np.array(ends), window=WINDOW, rate=RATE))
    for window, wave_L, row in zip(loaded, waves, rows, strict=True):
        # Sound is the extraction's own to the last bit: it decodes front to back, too.
        expected_FM = log_mel(torch.from_numpy(wave_L)[None], MEL)[0].numpy()
        np.testing.assert_array_equal(window.mel_FM, expected_FM)
        assert window.image_TSSC.shape == (3, 40, 40, 3)
        middle_T = window.image_TSSC[:, 30, 20].mean(axis=1)
        np.testing.assert_allclose(middle_T, [grey(index + 1) for index in row], atol=3)


def test_crops_are_read_from_their_own_files_however_they_are_named(small_dataset, tmp_path):
    crops = sorted(path for path in small_dataset.rglob("cropped_aligned*/*") if path.is_dir())[0]
    odd = tmp_path / "odd"
    odd.mkdir()
    for name, number in (("00002.jpg", "2"), ("00005.jpg", "0005")):
        (odd / f"{number}.jpg").write_bytes((crops / name).read_bytes())
    with Workers(setup(tmp_path, faces="crops", sound=None), 1) as workers:
        usual, strange = workers.windows(Load(crops=folder, frames=(2, 5, 2)) for folder in (crops, odd))
    np.testing.assert_array_equal(usual.image_TSSC, strange.image_TSSC)
    assert usual.mel_FM is None
    for picture, name in zip(usual.image_TSSC, ("00002.jpg", "00005.jpg", "00002.jpg"), strict=True):
        expected = fitted(torch.from_numpy(read_image(crops / name))[None], size=FIT.size)[0].numpy()
        np.testing.assert_array_equal(picture, expected)


def test_faces_found_are_kept_as_the_extraction_cuts_them_out(tmp_path, monkeypatch):
    """Two people share a file: each has pictures of their own, and who is the left one is told by where they are."""
    media, recipe = clip(tmp_path), FaceRecipe(size=16)

    def detector() -> Scripted:
        return Scripted(lambda _: [(0.9, 0.7, 0.4, 0.25), (0.9, 0.2, 0.4, 0.2)])

    monkeypatch.setattr(scratch, "CenterFace", detector)
    left, right = (Video(f"clip_{side}", "train", media, None, None) for side in ("left", "right"))
    parts = [windows_of(video, [[0, 5]], [1.0]) for video in (left, right)]
    made = setup(tmp_path, faces="detect", face=recipe, sound=None)
    material = Material(made, dataset(tmp_path, left, right, faces="detect"), parts)
    (request,) = material.missing()
    assert request.sharing == ("clip_left", "clip_right")
    scratch.prepare(request, made)
    found = find_faces(media, detector(), recipe)
    people = sorted(found.people, key=lambda person: person.placement_D4[0, 0])
    for window, person in enumerate(people):
        kept = np.load(tmp_path / material.request(window).pictures)
        expected = [picture.rgb_HWC for picture in face_pictures(media, "all", found.time_F, person, recipe)]
        np.testing.assert_array_equal(kept, np.stack(expected))


def test_two_people_in_one_file_share_its_sound(tmp_path):
    media = clip(tmp_path)
    one, two = (Video(name, "train", media, None, None) for name in ("clip", "clip_right"))
    parts = [windows_of(one, [[0]], [1.0]), replace(windows_of(two, [[0]], [1.0]), last=1.5)]
    material = Material(setup(tmp_path), dataset(tmp_path, one, two), parts)
    (request,) = material.missing()
    assert [person.name for person in request.people] == ["clip", "clip_right"]
    assert material.request(0).sound == material.request(1).sound
    assert material.video(1) == "clip_right"


def test_a_video_without_sound_is_silent(tmp_path):
    media = write_clip(tmp_path / "mute.mp4", times_ms=range(0, 2000, 40))
    video = Video("mute", "train", media, None, None)
    material = Material(setup(tmp_path, fit=None), dataset(tmp_path, video), [windows_of(video, [[0]], [1.0])])
    with Workers(material.setup, 1) as workers:
        list(workers.prepare(material.missing()))
        (window,) = workers.windows([material.request(0)])
    assert window.image_TSSC is None
    np.testing.assert_array_equal(window.mel_FM, log_mel(torch.zeros(1, RATE), MEL)[0].numpy())


def test_a_video_may_have_the_longest_name_of_all(tmp_path):
    media = clip(tmp_path, name="x" * 251 + ".mp4")
    (there := tmp_path / "scratch").mkdir()
    video = Video(media.stem, "train", media, None, None)
    material = Material(setup(there), dataset(tmp_path, video), [windows_of(video, [[0]], [1.0])])
    for request in material.missing():
        scratch.prepare(request, material.setup)
    assert not material.missing()
    window = load(material.request(0), material.setup)
    assert window.image_TSSC is not None
    assert window.mel_FM is not None


def test_a_name_may_be_any_bytes(tmp_path):
    """Such as of an old camera, or of a system of before UTF-8."""
    media = clip(tmp_path).rename(tmp_path / os.fsdecode(b"caf\xe9 %41.mp4"))
    (there := tmp_path / os.fsdecode(b"scr\xe4tch")).mkdir()
    video = Video("cafe", "train", media, None, None)
    material = Material(setup(there), dataset(tmp_path, video), [windows_of(video, [[0, 25]], [1.0])])
    with Workers(material.setup, 1) as workers:
        assert len(list(workers.prepare(material.missing()))) == 1
        (window,) = workers.windows([material.request(0)])
    assert not material.missing()
    assert abs(int(np.median(window.image_TSSC[0])) - grey(1)) <= 3
    assert np.ptp(window.mel_FM) > 0
    media.write_bytes(media.read_bytes()[:3000])
    shutil.rmtree(there)
    there.mkdir()
    with Workers(material.setup, 1) as workers, pytest.raises(MediaError, match=r"caf\\udce9 %41\.mp4: is cut off"):
        list(workers.prepare(material.missing()))


@settings(max_examples=60)
@given(
    end=st.floats(-2, 4, allow_nan=False),
    window=st.floats(0.05, 2),
    last=st.floats(0, 3),
    rate=st.integers(50, 300),
)
def test_any_window_of_a_kept_sound_is_where_it_was(end, window, last, rate):
    """Sound that spells its own place: sample k, from the first frame on, is k."""
    offset = round(window * rate)
    kept_L = np.arange(scratch.sound_samples(last, rate=rate, before=window), dtype=np.float32) - offset
    cut_L = scratch.cut_sound(kept_L, end, window=window, rate=rate)
    assert len(cut_L) == offset
    expected_L = np.arange(round(end * rate) - offset, round(end * rate))
    there_L = (expected_L >= -offset) & (expected_L < len(kept_L) - offset)
    np.testing.assert_array_equal(cut_L, np.where(there_L, expected_L, 0))


def test_another_file_under_the_same_name_is_noticed(tmp_path):
    media = clip(tmp_path)
    video = Video("clip", "train", media, None, None)
    later = replace(windows_of(video, [[0]], [1.0]), time_M=np.arange(50) * 0.05)
    longer = replace(windows_of(video, [[0]], [1.0]), frame_M=np.arange(1, 61), time_M=np.arange(60) * 0.04)
    same = setup(tmp_path, sound=None)
    with Workers(same, 1) as workers:
        for part, fault in ((later, "shows frame 2 at 0.040 s"), (longer, "ends before frame 51")):
            material = Material(same, dataset(tmp_path, video), [part])
            with pytest.raises(MediaError, match=fault):
                list(workers.prepare(material.missing()))
    assert not list(tmp_path.glob("*.npy"))


def test_a_fault_names_its_file_and_the_next_windows_come(tmp_path):
    (empty := tmp_path / "empty").mkdir()
    with Workers(setup(tmp_path, faces="crops", sound=None), 2) as workers:
        with pytest.raises(MediaError, match=r"empty: holds no crop of frame 7"):
            list(workers.windows([Load(crops=empty, frames=(7,)) for _ in range(5)]))
        (tmp_path / "kept.npy").write_bytes(b"")
        np.save(tmp_path / "kept.npy", np.full((2, 40, 40, 3), 9, dtype=np.uint8))
        (window,) = workers.windows([Load(pictures="kept.npy", frames=(1,))])
        assert (window.image_TSSC == 9).all()


@pytest.mark.parametrize(
    ("left", "said"), [(None, "is gone from"), (0, "is damaged in"), (1, "is damaged in"), (2, "is damaged in")]
)
@pytest.mark.parametrize("named", ["pictures", "sound"])
def test_a_scratch_file_that_is_gone_or_damaged_is_named(tmp_path, left, said, named):
    """As where somebody clears a folder that trainings share."""
    file = tmp_path / "kept.npy"
    if left is not None:
        np.save(file, np.zeros(40_000, dtype=np.float32))
        file.write_bytes((b"", file.read_bytes()[:1000], bytes(file.stat().st_size))[left])
    wanted = setup(tmp_path, **{"sound" if named == "pictures" else "fit": None})
    with pytest.raises(MediaError, match=rf"kept\.npy: {said} the scratch folder; .*run the same command again"):
        load(Load(**{named: "kept.npy"}, frames=(0,), end=1.0), wanted)


def test_a_process_that_is_killed_is_one_line(tmp_path):
    np.save(tmp_path / "kept.npy", np.zeros((2, 40, 40, 3), dtype=np.uint8))
    request = Load(pictures="kept.npy", frames=(1,))
    with Workers(setup(tmp_path, sound=None), 2) as workers, closing(workers.windows([request] * 100)) as windows:
        next(windows)
        os.kill(workers._workers[1].process.pid, signal.SIGKILL)
        with pytest.raises(VapromptError, match=r"ended by signal 9.*fewer with --workers"):
            list(windows)


def test_a_process_ends_with_the_one_that_started_it(tmp_path):
    with Workers(setup(tmp_path), 1) as workers:
        process = workers._workers[0].process
        workers._workers[0].requests.close()
        assert process.wait(timeout=120) == 0  # it imports torch first, which takes long where much else is done


def test_a_disk_without_room_is_told_before_anything_is_decoded(tmp_path, monkeypatch):
    media = clip(tmp_path)
    video = Video("clip", "train", media, None, None)
    material = Material(setup(tmp_path), dataset(tmp_path, video), [windows_of(video, [[0]], [1.0])])
    free = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    with pytest.raises(TargetError, match=r"needs 0\.0 GB .*--scratch"):
        material.missing()


@pytest.mark.parametrize("wanted", [{"sound": None}, {"fit": None}])
def test_a_disk_that_others_fill_meanwhile_is_told_and_ends_no_process(tmp_path, monkeypatch, wanted):
    """Room that a map has only been promised is missed when it is written to, of which the process dies."""

    def full(file: int, nbytes: int) -> None:
        assert nbytes == os.fstat(file).st_size > 50_000
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    media = clip(tmp_path)
    (there := tmp_path / "scratch").mkdir()
    video = Video("clip", "train", media, None, None)
    material = Material(setup(there, **wanted), dataset(tmp_path, video), [windows_of(video, [[0]], [1.0])])
    (request,) = material.missing()
    monkeypatch.setattr(scratch, "reserve", full, raising=False)
    with pytest.raises(TargetError, match=r"clip\..*cannot be written \(No space left on device\)"):
        scratch.prepare(request, material.setup)
    assert not list(there.iterdir())


def test_a_data_set_that_the_store_was_not_made_of_is_refused(small_store, small_dataset, tmp_path):
    from vaprompt.datasets.description import open_dataset

    store, there = FeatureStore.open(small_store), open_dataset(small_dataset)
    names = store.videos()
    assert [video.name for video in files_of(store, there, names, small_dataset)] == names
    with pytest.raises(FingerprintError, match=r"name.*other"):
        files_of(store, replace(there, name="other"), names, small_dataset)
    with pytest.raises(DatasetError, match="lacks 1 of the 6 videos"):
        files_of(store, replace(there, videos=there.videos[1:]), names, small_dataset)
    bare = tuple(replace(video, media=None) for video in there.videos)
    with pytest.raises(DatasetError, match="no media file of 6 of the 6"):
        files_of(store, replace(there, videos=bare), names, small_dataset)
    bare = tuple(replace(video, crops=None) for video in there.videos)
    with pytest.raises(DatasetError, match="no face crops of 6 of the 6"):
        files_of(store, replace(there, videos=bare), names, small_dataset)
    other = replace(there.videos[0], media=clip(tmp_path))
    changed = replace(there, videos=(other, *there.videos[1:]))
    with pytest.raises(FingerprintError, match=r"clip\.mp4: has \d+ bytes"):
        files_of(store, changed, names, small_dataset)
