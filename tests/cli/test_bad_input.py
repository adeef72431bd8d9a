"""Bad input, for every command: one line that names the file and the remedy, exit code 2 (3 where others go on),
and nothing half-written left behind."""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.calling import Call, call, call_process
from vaprompt.datasets.base import Video
from vaprompt.datasets.description import open_dataset
from vaprompt.recipes import shipped
from vaprompt.store import FeatureStore

FEW_FRAMES = ["--set", "image_rate=2"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set of ten people, two seconds each, that tests copy and damage."""
    root = tmp_path_factory.mktemp("tiny") / "data"
    assert call_process("synth", root, "--videos", "10", "--seconds", "2", "--seed", "5").code == 0
    return root


def media_in(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.*") if path.suffix in (".mp4", ".avi"))


def change_row(path: Path, row: int, text: str) -> None:
    lines = path.read_text().splitlines()
    lines[row] = text
    path.write_text("\n".join(lines) + "\n")


ANNOTATION_FAULTS = {
    "wrong header": (0, "arousal,valence"),
    "three values": (7, "0.1,0.2,0.3"),
    "text": (8, "0.1,calm"),
    "out of range": (9, "7.3,0.1"),
}
MEDIA_FAULTS = ("empty", "text as mp4", "truncated", "missing")


@dataclass(frozen=True)
class Damaged:
    """A data set with faults, the store made of it, and what the extraction said."""

    root: Path
    store: Path
    whole: list[str]
    """Names of the videos that nothing was done to."""
    faulty: dict[str, Video]
    """The video that has each fault."""
    extraction: Call

    def reason(self, fault: str) -> str:
        """Return why the video with this fault failed."""
        return str(self.extraction.json["failed"][self.faulty[fault].name])


@pytest.fixture(scope="module")
def damaged(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    """Return a data set in which every video but the two of one file has another fault."""
    root = tmp_path_factory.mktemp("damaged") / "data"
    shutil.copytree(tiny, root)
    videos = open_dataset(root).videos
    users = Counter(video.media for video in videos)
    faulty = dict(zip((*ANNOTATION_FAULTS, *MEDIA_FAULTS), (v for v in videos if users[v.media] == 1), strict=True))
    for fault, (row, text) in ANNOTATION_FAULTS.items():
        annotation = faulty[fault].annotation
        assert annotation is not None
        change_row(annotation, row, text)
    empty, text_file, truncated, missing = (media_of(faulty[fault]) for fault in MEDIA_FAULTS)
    empty.write_bytes(b"")
    text_file.write_text("this is no video\n" * 100)
    truncated.write_bytes(truncated.read_bytes()[: truncated.stat().st_size // 2])
    missing.unlink()
    store = root.parent / "store.zarr"
    extraction = call("extract", root, "extract/demo.toml", "--store", store, "--json", *FEW_FRAMES)
    return Damaged(root, store, sorted(v.name for v in videos if users[v.media] == 2), faulty, extraction)


def media_of(video: Video) -> Path:
    assert video.media is not None
    return video.media


def test_what_is_whole_goes_on_and_the_exit_code_is_3(damaged: Damaged):
    assert damaged.extraction.code == 3
    assert sorted(damaged.extraction.json["done"]) == damaged.whole
    assert set(damaged.extraction.json["failed"]) == {video.name for video in damaged.faulty.values()}
    info = call("store", "info", damaged.store, "--json")
    assert info.code == 3
    assert info.json["failed"] == damaged.extraction.json["failed"]
    assert sum(split["videos"] for split in info.json["splits"].values()) == len(damaged.whole) == 2


@pytest.mark.parametrize("fault", ANNOTATION_FAULTS)
def test_a_faulty_annotation_is_named_with_its_line(damaged: Damaged, fault: str):
    row, _ = ANNOTATION_FAULTS[fault]
    assert damaged.reason(fault).startswith(f"{damaged.faulty[fault].annotation}:{row + 1}: ")
    assert_has_remedy(damaged.reason(fault))


@pytest.mark.parametrize("fault", MEDIA_FAULTS[:3])
def test_media_that_cannot_be_decoded_are_named(damaged: Damaged, fault: str):
    assert damaged.reason(fault).startswith(f"{damaged.faulty[fault].media}: ")
    assert_has_remedy(damaged.reason(fault))


def test_an_annotation_without_its_video_is_named(damaged: Damaged):
    assert damaged.reason("missing").startswith(f"{damaged.faulty['missing'].name}: has no media file")
    assert_has_remedy(damaged.reason("missing"))


def test_a_failed_video_leaves_nothing_half_written(damaged: Damaged):
    store = FeatureStore.open(damaged.store)
    for stream in store.streams:
        assert {path.name for path in (damaged.store / stream).iterdir() if path.is_dir()} == store.done(stream)
    assert [path.name for path in damaged.store.iterdir() if path.name.startswith(".")] == [".index.json"]


def test_a_file_that_changed_since_is_told_with_exit_code_3_and_made_again_when_asked(damaged: Damaged, tmp_path: Path):
    root, store = tmp_path / "data", tmp_path / "store.zarr"
    shutil.copytree(damaged.root, root)
    shutil.copytree(damaged.store, store)
    (whole, other) = (video for video in open_dataset(root).videos if video.name in damaged.whole)
    assert whole.annotation is not None
    change_row(whole.annotation, 3, "0.12345,-0.5")
    command = ("extract", root, "extract/demo.toml", "--store", store, *FEW_FRAMES)
    told = call(*command)
    assert told.code == 3
    assert f"{whole.name}: annotation {whole.annotation.name} " in told.out
    assert "--refresh makes them again" in told.out
    again = call(*command, "--refresh", "--json")
    assert again.json["done"] == [whole.name]
    assert again.json["changed"] == {}
    assert other.name in again.json["skipped"]


@pytest.mark.parametrize("shard", ["0/4", "5/4", "a"])
def test_a_bad_shard_is_refused(tmp_path: Path, shard: str):
    outcome = call("extract", tmp_path / "data", "--store", tmp_path / "store.zarr", "--shard", shard)
    assert "from 1 to n" in refused(outcome, naming=f"--shard {shard}")


def assert_has_remedy(line: str) -> None:
    fault, _, remedy = line.rpartition("; ")
    assert fault
    assert len(remedy) > 8
    assert "\n" not in line


def refused(outcome: Call, *, naming: str | Path) -> str:
    """Check a refusal: exit code 2, nothing on stdout, one line that names the thing and the way out."""
    assert outcome.code == 2, outcome
    assert not outcome.out
    assert str(naming) in outcome.fault
    assert_has_remedy(outcome.fault)
    return outcome.fault


def test_a_data_set_that_is_none_is_refused(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.mp4").write_text("text")
    for data in ("missing", "missing.toml", "empty", "file.mp4"):
        outcome = call("extract", tmp_path / data, "extract/demo.toml", "--store", tmp_path / "store.zarr")
        refused(outcome, naming=tmp_path / data)
    assert not (tmp_path / "store.zarr").exists()


def test_annotations_all_with_a_wrong_header_are_refused(tiny: Path, tmp_path: Path):
    root = tmp_path / "data"
    shutil.copytree(tiny, root, ignore=shutil.ignore_patterns("*.jpg"))
    for path in root.rglob("*_Set/*.txt"):
        change_row(path, 0, "a,b")
    refused(call("extract", root, "extract/demo.toml", "--store", tmp_path / "store.zarr"), naming=root)


@pytest.mark.parametrize(
    ("command", "nearest"),
    [
        (["extract", "{data}", "extract/demo.toml", "--store", "{new}", "--set", "image.batchs=4"], "image.batch"),
        (["train", "{data}", "train/demo.toml", "--run", "{new}", "--set", "loss.klx=0.1"], "loss.kl"),
        (["weights", "fetch", "extract/demo.toml", "--to", "{new}", "--set", "image.weight=a"], "image.weights"),
    ],
)
def test_an_unknown_recipe_key_names_the_nearest(tiny: Path, tmp_path: Path, command: list[str], nearest: str):
    filled = [text.format(data=tiny, new=tmp_path / "new") for text in command]
    assert f"'{nearest}'" in refused(call(*filled), naming=filled[-1].partition("=")[0])
    assert not (tmp_path / "new").exists()


def test_an_unknown_key_in_a_recipe_file_names_file_and_nearest(tiny: Path, tmp_path: Path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[image]\nbach = 3\n")
    fault = refused(call("extract", tiny, recipe, "--store", tmp_path / "new"), naming=recipe)
    assert "'image.batch'" in fault


@pytest.mark.parametrize(
    ("key", "value"), [("image.batch", "0"), ("image_rate", "-3"), ("audio.hop", "'soon'"), ("image.kind", "'resnet'")]
)
def test_a_value_out_of_its_range_is_refused(tiny: Path, tmp_path: Path, key: str, value: str):
    arguments = ("extract", tiny, "extract/demo.toml", "--store", tmp_path / "new", "--set", f"{key}={value}")
    refused(call(*arguments), naming=key.partition(".")[0])


@pytest.mark.parametrize("seed", ["-1", "3000000000", "99999999999999999999999"])
def test_a_seed_out_of_its_range_is_refused_before_anything_is_written(small_store: Path, tmp_path: Path, seed: str):
    outcome = call("train", small_store, "train/demo.toml", "--run", tmp_path / "run", "--seed", seed)
    refused(outcome, naming="--seed" if seed == "-1" else f"seed = {seed}")
    assert not (tmp_path / "run").exists()


def test_missing_weights_are_an_error_that_says_how_to_get_them(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no cache"))
    outcome = call("extract", tiny, "--store", tmp_path / "new", "--set", "image.weights=/no/such/folder")
    assert "weights fetch" in refused(outcome, naming="/no/such/folder")
    assert not (tmp_path / "new").exists()


def test_a_store_made_by_another_recipe_is_refused_with_the_fields(damaged: Damaged, tmp_path: Path):
    root, store = damaged.root, damaged.store
    copy = tmp_path / "store.zarr"
    shutil.copytree(store, copy)
    before = sorted(copy.rglob("*"))
    outcome = call("extract", root, "extract/demo.toml", "--store", copy, "--set", "audio.hop=2", *FEW_FRAMES)
    assert "hop" in refused(outcome, naming=copy)
    assert sorted(copy.rglob("*")) == before


def test_what_is_no_store_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "folder").mkdir()
    for store in ("missing", "file", "folder"):
        refused(call("store", "info", tmp_path / store), naming=tmp_path / store)
        refused(call("train", tmp_path / store, "--run", tmp_path / "run"), naming=tmp_path / store)
    assert not (tmp_path / "run").exists()


def test_a_store_without_a_validation_split_cannot_be_trained_on(damaged: Damaged, tmp_path: Path):
    refused(call("train", damaged.store, "train/demo.toml", "--run", tmp_path / "run"), naming=damaged.store)
    assert not (tmp_path / "run").exists()


def test_what_is_no_run_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "folder").mkdir()
    for run in ("missing", "file", "folder"):
        refused(call("evaluate", tmp_path / run), naming=tmp_path / run)
        refused(call("predict", tmp_path / run, "a.mp4", "--out", tmp_path / "out"), naming=tmp_path / run)
    assert not (tmp_path / "out").exists()


def test_a_run_without_its_checkpoint_is_refused(small_run: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    (run / "checkpoint.safetensors").unlink()
    refused(call("evaluate", run), naming=run)
    (tmp_path / "a.mp4").write_bytes(b"no video")
    refused(call("predict", run, tmp_path / "a.mp4", "--out", tmp_path / "out"), naming=run)
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_recipe_is_refused(small_run: Path, small_store: Path):
    outcome = call(
        "train", small_store, "train/demo.toml", "--run", small_run, "--set", "loss.kl=0.7", "--set", "epochs=2"
    )
    assert "loss.kl" in refused(outcome, naming=small_run)


def test_resuming_nothing_is_refused(small_store: Path, tmp_path: Path):
    refused(call("train", small_store, "--run", tmp_path / "run", "--resume"), naming=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_scored_on_features_made_otherwise(small_run: Path, damaged: Damaged):
    assert "made differently" in refused(call("evaluate", small_run, "--store", damaged.store), naming=damaged.store)


@pytest.fixture
def bad_media(tiny: Path, tmp_path: Path) -> dict[str, Path]:
    """Return media files with which something is wrong."""
    whole = media_in(tiny)[0].read_bytes()
    contents = {"empty.mp4": b"", "text.mp4": b"no video\n" * 99, "truncated.mp4": whole[: len(whole) // 2]}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in (*contents, "missing.mp4")}


def test_bad_media_are_named_while_the_good_go_on(
    small_run: Path, tiny: Path, bad_media: dict[str, Path], tmp_path: Path
):
    good, out = media_in(tiny)[0], tmp_path / "out"
    outcome = call("predict", small_run, *bad_media.values(), good, "--out", out, "--page", "--json")
    assert outcome.code == 3
    assert set(outcome.json["failed"]) == {str(path) for path in bad_media.values()}
    for path, reason in outcome.json["failed"].items():
        assert reason.startswith(path)
        assert_has_remedy(reason)
    assert [video["media"] for video in outcome.json["done"]] == [str(good)]
    assert outcome.json["done"][0]["page"] == str(out / f"{good.stem}.html")
    assert sorted(path.name for path in out.iterdir()) == [f"{good.stem}.{kind}" for kind in ("csv", "html", "png")]


def test_bad_media_alone_end_with_2(small_run: Path, bad_media: dict[str, Path], tmp_path: Path):
    outcome = call("predict", small_run, *bad_media.values(), "--out", tmp_path / "out")
    assert outcome.code == 2
    for path in bad_media.values():
        (line,) = [line for line in outcome.err.splitlines() if str(path) in line]
        assert_has_remedy(line)
    assert not list((tmp_path / "out").glob("*"))


def test_an_overlay_that_cannot_be_is_refused_before_anything_is_predicted(small_run: Path, tiny: Path, tmp_path: Path):
    good = media_in(tiny)
    start = ("predict", small_run, "--out", tmp_path / "out", "--overlay")
    assert "is one video, and 2 are given" in refused(
        call(*start, tmp_path / "a.mp4", *good[:2]), naming=tmp_path / "a.mp4"
    )
    assert "no suffix" in refused(call(*start, tmp_path / "a.gif", good[0]), naming=tmp_path / "a.gif")
    mine = next(path for path in good if path.suffix == ".mp4")
    assert "is the video that is read" in refused(call(*start, mine, mine), naming=mine)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["synth", "extract", "train", "predict", "demo", "weights fetch"])
def test_an_unwritable_target_is_refused(command: str, tiny: Path, small_run: Path, small_store: Path, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    target = tmp_path / "file" / "below"
    arguments: dict[str, list[str | Path]] = {
        "synth": ["synth", target, "--videos", "3", "--seconds", "2"],
        "extract": ["extract", tiny, "extract/demo.toml", "--store", target],
        "train": ["train", small_store, "train/demo.toml", "--run", target],
        "predict": ["predict", small_run, media_in(tiny)[0], "--out", target],
        "demo": ["demo", target, "--videos", "3", "--seconds", "14"],
        "weights fetch": ["weights", "fetch", "extract/paper.toml", "--to", target],
    }
    refused(call(*arguments[command]), naming=tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_data_set_is_not_written_over_something_else(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("precious")
    refused(call("synth", tmp_path, "--videos", "3", "--seconds", "2"), naming=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_demonstration_too_short_for_a_window_is_refused_before_it_is_drawn(tmp_path: Path):
    refused(call("demo", tmp_path / "demo", "--videos", "3", "--seconds", "11"), naming="--seconds")
    assert not list(tmp_path.iterdir())


def test_a_device_that_is_not_there_is_refused(small_store: Path, tmp_path: Path):
    refused(call("train", small_store, "--run", tmp_path / "run", "--device", "abacus"), naming="abacus")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--workers", "2"], "--workers: says nothing without a cluster; add --engine ray"),
        (["--address", "head:6379"], "--address: says nothing without a cluster"),
        (["--engine", "ray", "--address", "head"], "is not auto, local or HOST:PORT"),
        (["--engine", "ray", "--store", "s3://team/s.zarr"], "would be made in this machine's cache"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_one_line(tiny, tmp_path, options, said):
    done = call("extract", tiny, shipped("extract", "demo"), "--store", tmp_path / "s.zarr", *options)
    assert done.code == 2
    assert said in done.fault
