"""Bad input, for every command: one line that names the file and the remedy, exit code 2 (3 where others go on),
and nothing half-written left behind."""

import shutil
from pathlib import Path

import pytest

from tests.cli.calling import Call, call, call_process

SMALL_STEPS = ["--set", "image_rate=2"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set of ten people, two seconds each, that tests copy and damage."""
    root = tmp_path_factory.mktemp("tiny") / "data"
    assert call_process("synth", root, "--videos", "10", "--seconds", "2", "--seed", "5").code == 0
    return root


def annotation(root: Path, name: str) -> Path:
    (path,) = root.rglob(f"{name}.txt")
    return path


def media(root: Path, name: str) -> Path:
    (path,) = (path for path in root.rglob(f"{name}.*") if path.suffix in (".mp4", ".avi"))
    return path


def change_row(path: Path, row: int, text: str) -> None:
    lines = path.read_text().splitlines()
    lines[row] = text
    path.write_text("\n".join(lines) + "\n")


# What is done to which video of the tiny set, and what the reason has to name.
ANNOTATION_FAULTS = {
    "17-24-1920x1080": (0, "arousal,valence", ":1: "),
    "24-30-640x360": (7, "0.1,0.2,0.3", ":8: "),
    "31-25-484x360": (8, "0.1,calm", ":9: "),
    "video7": (9, "7.3,0.1", ":10: "),
}
EMPTY, TEXT, TRUNCATED, MISSING = "45-60-1920x1080", "52-30-640x360", "59-30-484x360-1", "66-15-1280x720"
PEOPLE = {EMPTY: "45-60-1920x1080_right", TRUNCATED: "59-30-484x360-1_right"}


@pytest.fixture(scope="module")
def damaged(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Call]:
    """Return a data set in which all but two videos are damaged, the store made of it, and the extraction."""
    root = tmp_path_factory.mktemp("damaged") / "data"
    shutil.copytree(tiny, root)
    for name, (row, text, _) in ANNOTATION_FAULTS.items():
        change_row(annotation(root, name), row, text)
    media(root, EMPTY).write_bytes(b"")
    media(root, TEXT).write_text("this is no video\n" * 100)
    whole = media(root, TRUNCATED).read_bytes()
    media(root, TRUNCATED).write_bytes(whole[: len(whole) // 2])
    media(root, MISSING).unlink()
    store = root.parent / "store.zarr"
    return root, store, call("extract", root, "extract/demo.toml", "--store", store, "--json", *SMALL_STEPS)


def test_what_is_whole_goes_on_and_the_exit_code_is_3(damaged: tuple[Path, Path, Call]):
    _, store, extraction = damaged
    assert extraction.code == 3
    assert sorted(extraction.json["done"]) == ["10-60-1280x720", "10-60-1280x720_right"]
    assert set(extraction.json["failed"]) == {
        *ANNOTATION_FAULTS, PEOPLE[EMPTY], TEXT, PEOPLE[TRUNCATED], MISSING
    }  # fmt: skip
    info = call("store", "info", store, "--json")
    assert info.code == 3
    assert info.json["failed"] == extraction.json["failed"]
    assert info.json["splits"]["train"]["videos"] == 2


@pytest.mark.parametrize("name", ANNOTATION_FAULTS)
def test_a_faulty_annotation_is_named_with_its_line(damaged: tuple[Path, Path, Call], name: str):
    root, _, extraction = damaged
    reason = extraction.json["failed"][name]
    assert reason.startswith(f"{annotation(root, name)}{ANNOTATION_FAULTS[name][2]}")
    assert_has_remedy(reason)


@pytest.mark.parametrize("name", [EMPTY, TEXT, TRUNCATED])
def test_media_that_cannot_be_decoded_are_named(damaged: tuple[Path, Path, Call], name: str):
    root, _, extraction = damaged
    reason = extraction.json["failed"][PEOPLE.get(name, name)]
    assert str(media(root, name)) in reason
    assert_has_remedy(reason)


def test_an_annotation_without_its_video_is_named(damaged: tuple[Path, Path, Call]):
    reason = damaged[2].json["failed"][MISSING]
    assert reason.startswith(f"{MISSING}: has no media file")
    assert_has_remedy(reason)


def test_a_failed_video_leaves_nothing_half_written(damaged: tuple[Path, Path, Call]):
    _, store, extraction = damaged
    for stream in ("image", "audio", "labels"):
        videos = {path.name for path in (store / stream).iterdir() if path.is_dir()}
        assert not videos & set(extraction.json["failed"]) - left_whole(store, stream)
    assert not [path for path in store.rglob("*") if "partial" in path.name or path.suffix == ".tmp"]


def left_whole(store: Path, stream: str) -> set[str]:
    """Return the videos whose stream is whole although another of their streams failed."""
    from vaprompt.store import FeatureStore

    return FeatureStore.open(store).done(stream)


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


def test_missing_weights_are_an_error_that_says_how_to_get_them(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no cache"))
    outcome = call("extract", tiny, "--store", tmp_path / "new", "--set", "image.weights=/no/such/folder")
    assert "weights fetch" in refused(outcome, naming="/no/such/folder")
    assert not (tmp_path / "new").exists()


def test_a_store_made_by_another_recipe_is_refused_with_the_fields(damaged: tuple[Path, Path, Call], tmp_path: Path):
    root, store, _ = damaged
    copy = tmp_path / "store.zarr"
    shutil.copytree(store, copy)
    before = sorted(copy.rglob("*"))
    outcome = call("extract", root, "extract/demo.toml", "--store", copy, "--set", "audio.hop=2", *SMALL_STEPS)
    assert "hop" in refused(outcome, naming=copy)
    assert sorted(copy.rglob("*")) == before


def test_what_is_no_store_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "folder").mkdir()
    for store in ("missing", "file", "folder"):
        refused(call("store", "info", tmp_path / store), naming=tmp_path / store)
        refused(call("train", tmp_path / store, "--run", tmp_path / "run"), naming=tmp_path / store)
    assert not (tmp_path / "run").exists()


def test_a_store_without_a_validation_split_cannot_be_trained_on(damaged: tuple[Path, Path, Call], tmp_path: Path):
    refused(call("train", damaged[1], "train/demo.toml", "--run", tmp_path / "run"), naming=damaged[1])
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
    refused(call("predict", run, "a.mp4", "--out", tmp_path / "out"), naming=run)
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_recipe_is_refused(small_run: Path, small_store: Path):
    outcome = call(
        "train", small_store, "train/demo.toml", "--run", small_run, "--set", "loss.kl=0.7", "--set", "epochs=2"
    )
    assert "loss.kl" in refused(outcome, naming=small_run)


def test_resuming_nothing_is_refused(small_store: Path, tmp_path: Path):
    refused(call("train", small_store, "--run", tmp_path / "run", "--resume"), naming=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_scored_on_features_made_otherwise(small_run: Path, damaged: tuple[Path, Path, Call]):
    assert "made differently" in refused(call("evaluate", small_run, "--store", damaged[1]), naming=damaged[1])


@pytest.fixture
def bad_media(tiny: Path, tmp_path: Path) -> dict[str, Path]:
    """Return media files with which something is wrong."""
    whole = media(tiny, "video7").read_bytes()
    contents = {"empty.mp4": b"", "text.mp4": b"no video\n" * 99, "truncated.mp4": whole[: len(whole) // 2]}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in (*contents, "missing.mp4")}


def test_bad_media_are_named_while_the_good_go_on(
    small_run: Path, tiny: Path, bad_media: dict[str, Path], tmp_path: Path
):
    good, out = media(tiny, "video7"), tmp_path / "out"
    outcome = call("predict", small_run, *bad_media.values(), good, "--out", out, "--json")
    assert outcome.code == 3
    assert set(outcome.json["failed"]) == {str(path) for path in bad_media.values()}
    for path, reason in outcome.json["failed"].items():
        assert reason.startswith(path)
        assert_has_remedy(reason)
    assert [video["media"] for video in outcome.json["done"]] == [str(good)]
    assert sorted(path.name for path in out.iterdir()) == ["video7.csv", "video7.png"]


def test_bad_media_alone_end_with_2(small_run: Path, bad_media: dict[str, Path], tmp_path: Path):
    outcome = call("predict", small_run, *bad_media.values(), "--out", tmp_path / "out")
    assert outcome.code == 2
    for path in bad_media.values():
        (line,) = [line for line in outcome.err.splitlines() if str(path) in line]
        assert_has_remedy(line)
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("command", ["synth", "extract", "train", "predict", "demo", "weights fetch"])
def test_an_unwritable_target_is_refused(command: str, tiny: Path, small_run: Path, small_store: Path, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    target = tmp_path / "file" / "below"
    arguments: dict[str, list[str | Path]] = {
        "synth": ["synth", target, "--videos", "3", "--seconds", "2"],
        "extract": ["extract", tiny, "extract/demo.toml", "--store", target],
        "train": ["train", small_store, "train/demo.toml", "--run", target],
        "predict": ["predict", small_run, media(tiny, "video7"), "--out", target],
        "demo": ["demo", target, "--videos", "3", "--seconds", "2"],
        "weights fetch": ["weights", "fetch", "extract/paper.toml", "--to", target],
    }
    refused(call(*arguments[command]), naming=tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_data_set_is_not_written_over_something_else(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("precious")
    refused(call("synth", tmp_path, "--videos", "3", "--seconds", "2"), naming=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_device_that_is_not_there_is_refused(small_store: Path, tmp_path: Path):
    refused(call("train", small_store, "--run", tmp_path / "run", "--device", "abacus"), naming="abacus")
