"""The synthetic data set holds what Aff-Wild2 holds, is the same from the same seed, and never stands half made."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vaprompt.datasets.synthetic import writer
from vaprompt.datasets.synthetic.cast import Recording, Role, deal, split_sizes
from vaprompt.datasets.synthetic.recipe import SyntheticRecipe
from vaprompt.datasets.synthetic.scene import Scene
from vaprompt.datasets.synthetic.speech import PARAMETERS
from vaprompt.datasets.synthetic.trajectory import AffectPath, random_source
from vaprompt.datasets.synthetic.voice import RATE
from vaprompt.datasets.synthetic.writer import MARKER, frame_times_of, write_synthetic
from vaprompt.errors import TargetError
from vaprompt.media.audio import audio_windows, has_audio
from vaprompt.media.video import frame_times, probe

SMALL = SyntheticRecipe(videos=6, seconds=3, seed=11)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "data"
    write_synthetic(root, SMALL)
    return root


def by_role(recipe: SyntheticRecipe) -> Iterator[tuple[Recording, Role]]:
    for recording in deal(recipe):
        for role in recording.roles:
            yield recording, role


def media_of(root: Path, recording: Recording) -> Path:
    return root / f"batch{recording.batch}" / f"{recording.stem}.{recording.container}"


def crops_of(root: Path, name: str) -> list[Path]:
    return sorted(root.glob(f"batch*/cropped_aligned*/{name}/*.jpg"))


def annotation_of(root: Path, name: str) -> np.ndarray:
    (path,) = root.glob(f"*/VA_Estimation_Challenge/*/{name}.txt")
    header, *rows = path.read_text().splitlines()
    assert header == "valence,arousal"
    return np.array([[float(value) for value in row.split(",")] for row in rows])


# --- what it contains ---------------------------------------------------------------------------------------------


def test_six_people_show_all_that_affwild2_contains() -> None:
    recordings, roles = deal(SMALL), [role for _, role in by_role(SMALL)]
    names = [role.name for role in roles]
    assert len(names) == len(set(names)) == 6
    assert {role.split for role in roles} == {"train", "validation", "test"}
    assert {recording.container for recording in recordings} == {"mp4", "avi"}
    assert {recording.batch for recording in recordings} == {1, 2}
    assert len({recording.rate for recording in recordings}) >= 4
    rights = [name for name in names if name.endswith("_right")]
    assert {name.removesuffix("_right") in names for name in rights} == {True, False}
    for peculiarity in ("invalid_start", "invalid_inside", "missing_crops", "more_rows"):
        assert any(getattr(role, peculiarity) for role in roles), peculiarity
    assert any(recording.silence for recording in recordings)
    assert any(recording.variable for recording in recordings)
    assert not all(recording.audio for recording in recordings)


@given(videos=st.integers(3, 200), validation=st.floats(0.05, 0.45), test=st.floats(0.05, 0.45))
@settings(max_examples=40)
def test_every_person_is_dealt_once(videos: int, validation: float, test: float) -> None:
    recipe = SyntheticRecipe(videos=videos, seconds=2, validation_share=validation, test_share=test)
    recordings = deal(recipe)
    roles = [role for recording in recordings for role in recording.roles]
    assert len({role.name for role in roles}) == len(roles) == sum(split_sizes(recipe).values()) >= videos
    assert min(split_sizes(recipe).values()) >= 1
    people = [person for recording in recordings for person in recording.people]
    assert len(set(people)) == len(people), "nobody appears twice, least of all in two splits"
    assert len({(recording.batch, recording.stem) for recording in recordings}) == len(recordings)


def test_names_do_not_tell_the_frame_rate() -> None:
    for recording in deal(SyntheticRecipe(videos=60, seconds=2)):
        if not recording.stem.startswith("video"):
            assert abs(int(recording.stem.split("-")[1]) - recording.rate) > 1


def test_media_have_the_frames_and_times_that_were_dealt(root: Path) -> None:
    for recording in deal(SMALL):
        media = media_of(root, recording)
        expected = frame_times_of(recording, SMALL.seed)
        np.testing.assert_allclose(frame_times(media), expected, atol=1e-3)
        steps = np.diff(expected)
        assert (np.ptp(steps) > 0.01) == recording.variable
        assert has_audio(media) == recording.audio
        info = probe(media)
        assert (info.width, info.height) == (192 * len(recording.people), 160)


def test_sound_lasts_as_long_as_the_picture_and_is_silent_only_where_it_is_meant(root: Path) -> None:
    for recording in deal(SMALL):
        if recording.audio:
            end = float(frame_times_of(recording, SMALL.seed)[-1])
            (wave,) = audio_windows(media_of(root, recording), np.array([end]), window=end)
            quiet = [float(np.abs(part).max()) < 1e-3 for part in np.array_split(wave, 40)]
            # The stretch runs from 0.4 to 0.65 of the sound; a codec smears its edges.
            assert all(quiet[18:25]) == recording.silence
            assert not any(quiet[:14])
            assert not any(quiet[28:])


def test_annotations_and_crops_follow_the_conventions(root: Path) -> None:
    for recording, role in by_role(SMALL):
        frames = len(frame_times_of(recording, SMALL.seed))
        crops = crops_of(root, role.name)
        assert all(crop.name == f"{int(crop.stem):05d}.jpg" for crop in crops)
        numbers = {int(crop.stem) for crop in crops}
        assert numbers <= set(range(1, frames + 1))
        assert (len(numbers) < frames) == role.missing_crops
        assert (1 not in numbers) == role.missing_crops
        with Image.open(crops[0]) as crop:
            assert crop.size == (112, 112)
        if role.split == "test":
            assert not list(root.glob(f"*/*/*/{role.name}.txt"))
            continue
        value_F2 = annotation_of(root, role.name)
        assert len(value_F2) == frames + role.more_rows
        invalid = (value_F2 == -5).any(axis=1)
        np.testing.assert_array_equal(invalid, (value_F2 == -5).all(axis=1))
        assert np.abs(value_F2[~invalid]).max() <= 1
        assert invalid[0] == role.invalid_start
        assert invalid[len(invalid) // 3 :].any() == role.invalid_inside


def test_labels_are_what_the_face_felt_at_each_frames_own_time(root: Path) -> None:
    for recording, role in by_role(SMALL):
        if role.split != "test":
            times = frame_times_of(recording, SMALL.seed)
            person = recording.people[role.place]
            affect = AffectPath(
                random_source(SMALL.seed, writer.NAMESPACE, person, "affect"), longest=writer.LONGEST_WAVE
            )(times)
            value_F2 = annotation_of(root, role.name)[: len(times)]
            valid = value_F2[:, 0] != -5
            np.testing.assert_allclose(value_F2[valid], affect[valid], atol=6e-4)


def test_the_template_asks_for_every_frame_of_every_test_video(root: Path) -> None:
    expected = {
        role.name: len(frame_times_of(recording, SMALL.seed))
        for recording, role in by_role(SMALL)
        if role.split == "test"
    }
    assert (root / writer.TEST_LIST).read_text().split() == sorted(expected)
    header, *rows = (root / writer.TEMPLATE).read_text().splitlines()
    assert header == "image_location,valence,arousal"
    places = [row.split(",")[0] for row in rows]
    assert places == [f"{name}/{frame:05d}.jpg" for name in sorted(expected) for frame in range(1, expected[name] + 1)]


# --- the same again -----------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_labels_crops_and_pictures(root: Path, tmp_path: Path) -> None:
    recording = deal(SMALL)[0]
    (tmp_path / f"batch{recording.batch}").mkdir()
    writer.draw_recording(recording, tmp_path, SMALL.seed)
    for role in recording.roles:
        np.testing.assert_array_equal(annotation_of(tmp_path, role.name), annotation_of(root, role.name))
        first, again = crops_of(root, role.name), crops_of(tmp_path, role.name)
        assert [crop.read_bytes() for crop in again] == [crop.read_bytes() for crop in first]
    np.testing.assert_array_equal(decoded(media_of(tmp_path, recording)), decoded(media_of(root, recording)))


def decoded(media: Path) -> np.ndarray:
    with av.open(str(media)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize(("namespace", "seed", "number"), [("encoders", 0, 3), ("dataset", 1, 3), ("dataset", 0, 4)])
def test_other_names_are_other_people(namespace: str, seed: int, number: int) -> None:
    one = Scene("dataset", seed=0, number=3, seconds=2.0, surroundings="any")
    other = Scene(namespace, seed=seed, number=number, seconds=2.0, surroundings="any")
    assert one.face != other.face
    assert one.voice != other.voice


def test_processes_draw_what_one_process_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = SyntheticRecipe(videos=3, seconds=2)
    write_synthetic(tmp_path / "alone", tiny)
    monkeypatch.setattr(writer, "_SECONDS_WORTH_PROCESSES", 0.0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    write_synthetic(tmp_path / "together", tiny)
    relative = [
        path.relative_to(tmp_path / "alone") for path in sorted((tmp_path / "alone").rglob("*")) if path.is_file()
    ]
    assert relative
    for path in relative:
        if path.suffix in (".jpg", ".txt", ".json"):
            assert (tmp_path / "alone" / path).read_bytes() == (tmp_path / "together" / path).read_bytes(), path


@pytest.mark.slow
def test_processes_that_draw_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vaprompt", "synth", str(tmp_path / "data"), "--videos", "40"]
    drawing = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ended = time.monotonic() + 60
    try:
        while len(helpers := children(drawing.pid)) < 2 or not list(tmp_path.rglob("*.mp4")):
            assert time.monotonic() < ended
            time.sleep(0.1)
    finally:
        drawing.kill()
        drawing.wait()
    ended = time.monotonic() + 20
    while left := [helper for helper in helpers if Path(f"/proc/{helper}").exists()]:
        assert time.monotonic() < ended, left
        time.sleep(0.1)


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


# --- what is drawn --------------------------------------------------------------------------------------------------


def test_paths_cover_the_plane_evenly_and_stay_in_it() -> None:
    value_N2 = np.concatenate(
        [AffectPath(np.random.default_rng(seed), longest=60.0)(np.arange(0, 60, 0.5)) for seed in range(300)]
    )
    assert np.abs(value_N2).max() <= AffectPath.REACH
    counts, _, _ = np.histogram2d(*value_N2.T, bins=3, range=[[-1, 1], [-1, 1]])
    # Nine cells: none holds less than two thirds of its share, or half as much again.
    np.testing.assert_allclose(counts / counts.sum(), 1 / 9, rtol=0.5)
    assert counts.min() / counts.sum() > 2 / 3 / 9


def test_pictures_do_not_depend_on_which_others_are_asked_for() -> None:
    scene = Scene("dataset", seed=0, number=0, seconds=4.0, surroundings="familiar")
    assert scene.expressions(np.array([1.5])) == scene.expressions(np.array([0.5, 1.5]))[1:]


def test_a_livelier_voice_is_higher_and_louder() -> None:
    pitch, loudness, arousal = [], [], []
    for number in range(12):
        scene = Scene("dataset", seed=0, number=number, seconds=20.0, surroundings="any")
        told = scene.speech.parameters(np.arange(0, 20, 0.1))
        pitch.append(told[:, PARAMETERS.index("pitch")] - told[:, PARAMETERS.index("pitch")].mean())
        loudness.append(told[:, PARAMETERS.index("loudness")])
        arousal.append(scene.affect(np.arange(0, 20, 0.1))[:, 1])
    assert np.corrcoef(np.concatenate(pitch), np.concatenate(arousal))[0, 1] > 0.5
    assert np.corrcoef(np.concatenate(loudness), np.concatenate(arousal))[0, 1] > 0.5


def test_the_pitch_that_is_planned_is_the_pitch_that_sounds() -> None:
    scene = Scene("dataset", seed=0, number=2, seconds=6.0, surroundings="familiar")
    wave, speech = scene.sound(), scene.speech
    loudest = int(np.argmax(speech.syllable_C[100:500])) + 100
    middle = loudest * RATE // 100
    piece = wave[middle - 512 : middle + 512] * np.hanning(1024)
    correlation = np.correlate(piece, piece, "full")[1023:]
    shortest, longest = RATE // 500, RATE // 60
    lag = shortest + int(np.argmax(correlation[shortest:longest]))
    assert RATE / lag == pytest.approx(speech.pitch_C[loudest], rel=0.06)


# --- publishing -----------------------------------------------------------------------------------------------------


def test_a_second_run_changes_nothing(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    write_synthetic(root, SMALL)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_another_recipe_is_refused_by_name_of_what_differs(root: Path) -> None:
    with pytest.raises(TargetError, match="seed 11 there, 12 asked"):
        write_synthetic(root, SMALL.model_copy(update={"seed": 12}))


def test_other_files_are_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(TargetError, match="is no synthetic data set"):
        write_synthetic(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_damaged_marker_is_an_error(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text("{")
    with pytest.raises(TargetError, match="cannot be read"):
        write_synthetic(tmp_path, SMALL)


def test_an_unwritable_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TargetError, match="cannot be written"):
        write_synthetic(tmp_path / "file" / "data", SMALL)


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "draw_recording", fail)
    with pytest.raises(TargetError, match="No space left"):
        write_synthetic(tmp_path / "data", SMALL)
    assert not list(tmp_path.iterdir())


def test_a_killed_run_leaves_nothing_that_looks_made_and_the_next_one_clears_up(tmp_path: Path) -> None:
    target, tiny = tmp_path / "data", SyntheticRecipe(videos=3, seconds=2)
    process = multiprocessing.get_context("spawn").Process(target=write_synthetic, args=(target, tiny))
    process.start()
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".data.partial-*/batch*/*.mp4")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not target.exists()
    assert list(tmp_path.glob(".data.partial-*"))
    write_synthetic(target, tiny)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert json.loads((target / MARKER).read_text())["recipe"]["videos"] == 3
