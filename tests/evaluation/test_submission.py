"""The challenge's file holds the template's rows, in its order, with the runs' values, finite and in range."""

import json
import shutil

import numpy as np
import pytest

from tests.evaluation.templates import HEADER, write_template
from tests.planted import plant_store, refingerprint
from tests.training.small import recipe
from vaprompt import FeatureStore, load_run
from vaprompt.cli.main import run as command
from vaprompt.errors import FingerprintError, RunError, TargetError
from vaprompt.evaluation.smoothing import Smoothing, smooth
from vaprompt.evaluation.submission import submit
from vaprompt.evaluation.template import SubmissionError, check_submission
from vaprompt.training.run import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("submitted")
    store = plant_store(folder / "store.zarr", train=3, validation=2, test=2, seconds=20.0)
    train(store, recipe(epochs=1), folder / "run", device="cpu")
    train(store, recipe(epochs=1, seed=1), folder / "other", device="cpu")
    return store, folder / "run"


def all_rows(store):
    source = FeatureStore.open(store)
    return [(name, row + 1) for name in source.videos("test") for row in range(len(source.labels(name).time_F))]


def read(path):
    lines = path.read_text().splitlines()
    cells = [line.split(",") for line in lines[1:]]
    return lines[0], [row[0] for row in cells], np.array([[float(value) for value in row[1:]] for row in cells])


def test_rows_and_order_are_the_templates_and_values_are_the_runs(trained, tmp_path):
    store, run = trained
    rows = all_rows(store)
    np.random.default_rng(0).shuffle(rows)
    template = write_template(tmp_path / "template.txt", rows)
    written = submit([run], store=store, template=template, out=tmp_path / "mine.txt", every=1, device="cpu")
    header, locations, values = read(tmp_path / "mine.txt")
    assert header == HEADER
    assert locations == [f"{video}/{frame:05d}.jpg" for video, frame in rows]
    assert np.isfinite(values).all()
    assert np.abs(values).max() <= 1
    source, loaded = FeatureStore.open(store), load_run(run)
    missing = 0
    for name in source.videos("test"):
        image, audio, time = source.image(name), source.audio(name), source.labels(name).time_F
        at = loaded.predict_at(image.time_N, image.embedding_ND, image.time_N, audio.embedding_WSD, audio.end_W, time)
        missing += len(time) - len(image.time_N)
        for (video, frame), value in zip(rows, values, strict=True):
            if video == name:
                expected = [np.interp(time[frame - 1], image.time_N, at[:, axis]) for axis in (0, 1)]
                np.testing.assert_allclose(value, expected, atol=2e-6)
    assert missing > 0
    assert (written.rows, written.videos, written.filled) == (len(rows), 2, missing)
    assert written.interpolation == "a window ends at every encoded picture"
    assert check_submission(tmp_path / "mine.txt", template) == ([], 0)


def test_runs_are_averaged_and_smoothed_and_part_of_a_video_is_enough(trained, tmp_path):
    store, run = trained
    other = run.with_name("other")
    rows = all_rows(store)[3:150:2]
    template = write_template(tmp_path / "template.txt", rows)
    values = []
    for number, runs in enumerate(([run], [other], [run, other])):
        submit(runs, store=store, template=template, out=tmp_path / f"{number}.txt", device="cpu")
        values.append(read(tmp_path / f"{number}.txt")[2])
    np.testing.assert_allclose(values[2], (values[0] + values[1]) / 2, atol=2e-6)
    full = write_template(tmp_path / "full.txt", all_rows(store))
    submit([run], store=store, template=full, out=tmp_path / "plain.txt", device="cpu")
    filtered = Smoothing("mean", 1.0)
    written = submit([run], store=store, template=full, out=tmp_path / "even.txt", device="cpu", smoothing=filtered)
    assert "smoothed: mean:1" in written.notes
    time = FeatureStore.open(store).labels("video5").time_F
    plain, even = (read(tmp_path / name)[2][: len(time)] for name in ("plain.txt", "even.txt"))
    np.testing.assert_allclose(even, smooth(time, plain, filtered), atol=3e-6)


def test_of_several_runs_the_mean_is_smoothed_as_evaluate_does_it(trained, tmp_path):
    store, run = trained
    runs, median = [run, run.with_name("other")], Smoothing("median", 2.0)
    template = write_template(tmp_path / "template.txt", all_rows(store))
    place = {"store": store, "template": template, "device": "cpu", "every": 1}
    submit(runs, out=tmp_path / "plain.txt", **place)
    submit(runs, out=tmp_path / "smooth.txt", smoothing=median, **place)
    names, plain = [row.partition("/")[0] for row in read(tmp_path / "plain.txt")[1]], read(tmp_path / "plain.txt")[2]
    for name in FeatureStore.open(store).videos("test"):
        mine = np.array(names) == name
        time_F = FeatureStore.open(store).labels(name).time_F
        found = read(tmp_path / "smooth.txt")[2][mine]
        np.testing.assert_allclose(found, smooth(time_F, plain[mine], median), atol=3e-6)


def test_filled_rows_are_counted_whichever_run_stands_first(trained, tmp_path):
    store, run = trained
    alone = recipe(epochs=1)
    alone = alone.model_copy(update={"model": alone.model.model_copy(update={"modalities": ("audio",)})})
    train(store, alone, tmp_path / "heard", device="cpu")
    template = write_template(tmp_path / "template.txt", all_rows(store))
    place = {"store": store, "template": template, "out": tmp_path / "out.txt", "device": "cpu"}
    seen_first, heard_first = (submit(runs, **place) for runs in ([run, tmp_path / "heard"], [tmp_path / "heard", run]))
    assert seen_first.filled == heard_first.filled > 0
    assert seen_first.notes == heard_first.notes


def test_a_template_that_the_store_cannot_answer_is_refused_and_nothing_is_written(trained, tmp_path):
    store, run = trained
    template = write_template(tmp_path / "t.txt", [("video5", 1), ("video99", 1), ("video98", 1)])
    out = tmp_path / "out" / "mine.txt"
    with pytest.raises(SubmissionError, match=r"t\.txt:3: video 'video99' and 1 more of 3 are not in"):
        submit([run], store=store, template=template, out=out, device="cpu")
    write_template(template, [("video5", 200), ("video5", 210), ("video5", 211)])
    with pytest.raises(SubmissionError, match=r"t\.txt:4: asks for frame 211 of 'video5'.*has 200"):
        submit([run], store=store, template=template, out=out, device="cpu")
    assert not out.exists()
    write_template(template, [("video5", 200), ("video5", 210)])
    written = submit([run], store=store, template=template, out=out, device="cpu")
    values = read(out)[2]
    np.testing.assert_array_equal(values[0], values[1])
    assert any("1 rows are of frames behind" in note for note in written.notes)
    with pytest.raises(RunError, match="no run is given"):
        submit([], store=store, template=template, out=out, device="cpu")
    with pytest.raises(RunError, match="given twice"):
        submit([run, run], store=store, template=template, out=out, device="cpu")


def test_a_place_that_no_submission_can_have_is_refused_before_anything_is_predicted(trained, tmp_path):
    store, _ = trained
    template = write_template(tmp_path / "t.txt", [("video5", 1)])
    asked = template.read_bytes()
    (tmp_path / "again.txt").symlink_to(template)
    no_run = tmp_path / "no-run"  # which would be told of, were it looked at first
    for out, fault in (
        (tmp_path, "is a folder; name a file in it"),
        (template, "is the template; name another file"),
        (tmp_path / "again.txt", "is the template"),
        (template / "mine.txt", "is a file, where a folder is wanted"),
    ):
        with pytest.raises(TargetError, match=fault):
            submit([no_run], store=store, template=template, out=out, device="cpu")
    assert template.read_bytes() == asked


def test_another_kind_of_features_is_refused(trained, tmp_path):
    store, run = trained
    other = tmp_path / "other.zarr"
    shutil.copytree(store, other)
    refingerprint(other, "image", encoder="another")
    template = write_template(tmp_path / "t.txt", [("video5", 1)])
    with pytest.raises(FingerprintError):
        submit([run], store=other, template=template, out=tmp_path / "mine.txt", device="cpu")


def test_the_command_writes_checks_and_says_what_is_wrong(trained, tmp_path, capsys):
    store, run = trained
    template = write_template(tmp_path / "t.txt", all_rows(store))
    mine = tmp_path / "mine.txt"
    place = ["--store", str(store), "--template", str(template), "--out", str(mine)]
    assert command(["submit", str(run), *place, "--fill", "nearest", "--smooth", "median:1", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)["written"]
    assert written["rows"] == 400
    check = ["submit", "--check", str(mine), "--template", str(template)]
    assert command([*check, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["valid"]
    lines = mine.read_text().splitlines()
    lines[7] = lines[7].replace(",", ",9", 1)
    mine.write_text("\n".join(lines))
    assert command(check) == 2
    assert capsys.readouterr().out.startswith(f"{mine}:8: valence 9")
    assert command(["submit", str(run), "--template", str(template)]) == 2
    assert command(["submit", str(run), *place, "--smooth", "box"]) == 2
    assert command([*check, "--store", str(store)]) == 2
