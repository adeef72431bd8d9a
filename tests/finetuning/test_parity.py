"""With frozen encoders, raw media give what the cache gives: predictions within float16's rounding, losses to 1e-3."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.finetuning.conftest import FROZEN, HEADS, heads_recipe, recipe
from vaprompt.datasets.description import open_dataset
from vaprompt.errors import OptionError
from vaprompt.evaluation.evaluate import evaluate
from vaprompt.extraction.pipeline import extract
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.finetuning import session
from vaprompt.finetuning.finetune import finetune
from vaprompt.finetuning.parity import BOUND, REMARKABLE, remark
from vaprompt.finetuning.recipe import stream_of
from vaprompt.finetuning.step import RawBatch
from vaprompt.media.video import frame_times
from vaprompt.model.estimator import Estimator
from vaprompt.recipes import read_recipe, shipped
from vaprompt.store import FeatureStore
from vaprompt.training.data import Resident
from vaprompt.training.recipe import TrainRecipe
from vaprompt.training.run import train
from vaprompt.training.runs import load_run
from vaprompt.training.step import window_loss


def start_of(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())["start"]


def check_parity(base: Path, data: Path, new: Path) -> None:
    """Fine-tune for a step with frozen encoders, and hold its start to the store's features."""
    finetune(base, data, recipe(**FROZEN, epochs=1), new, device="cpu")
    found = start_of(new)
    assert 0 < found["largest_difference"] <= BOUND, "not exactly alike either: the store has rounded"


def test_crops_on_the_synthetic_set(base, small_dataset, tmp_path):
    check_parity(base, small_dataset, tmp_path / "new")
    facts = json.loads((tmp_path / "new" / "run.json").read_text())
    assert facts["encoders"] == {}
    assert facts["store"]["fingerprints"] == load_run(base).facts["store"]["fingerprints"]
    assert not (tmp_path / "new" / "encoders").exists()
    assert facts["start"]["mean"] == pytest.approx(
        json.loads((base / "run.json").read_text())["best"]["mean"], abs=0.01
    )


def test_whole_frames_on_the_synthetic_set(frames_base, frames_data, tmp_path):
    check_parity(frames_base, frames_data, tmp_path / "new")
    assert not (tmp_path / "new" / "scratch").exists()


LITERAL = ("image.normalisation=imagenet", "audio.spectrogram=decibel", "audio.output=tokens", "image_rate=3.0")


@pytest.mark.slow
def test_the_released_codes_choices(small_dataset, tmp_path):
    """From pictures under ImageNet's mean and tokens of a picture in decibels, through the released gate."""
    shortened = [*LITERAL, "audio.model=embedded", "audio.weights=embedded", "audio.hop=2.0"]
    wanted = read_recipe(
        ExtractRecipe, shipped("extract", "literal"), [*shortened, "image.model=embedded", "image.weights=embedded"]
    )
    assert not extract(open_dataset(small_dataset), wanted, tmp_path / "store.zarr").failed
    assert FeatureStore.open(tmp_path / "store.zarr").audio("video7").embedding_WSD.shape[1:] == (513, 96)
    changes = ["window.seconds=4.0", "window.frames=4", "model.width=16", "model.temporal.units=16", "epochs=1"]
    literal = read_recipe(TrainRecipe, shipped("train", "literal"), changes)
    train(tmp_path / "store.zarr", literal, tmp_path / "base", device="cpu")
    check_parity(tmp_path / "base", small_dataset, tmp_path / "new")
    finetune(tmp_path / "base", small_dataset, recipe(epochs=1), tmp_path / "tuned", device="cpu")
    before, after = (" ".join(load_run(tmp_path / name).facts["notes"]) for name in ("base", "tuned"))
    assert "no gradient" in before
    assert "no gradient" not in after, "the KL term reaches an image encoder that learns"


@pytest.mark.slow
def test_real_clips(clips, tmp_path):
    """Pictures of every size and rate, sound that stops early or is not there, by the same miniatures."""
    (root := tmp_path / "clips").mkdir()
    names = sorted(path.name for path in clips.iterdir() if path.suffix in (".mp4", ".mov"))
    for name in names:
        (root / name).symlink_to(clips / name)
    rows = ["video,time,valence,arousal"]
    for name in names:
        second_R = np.arange(0, frame_times(clips / name)[-1], 0.5)
        rows += [f"{name},{second},{np.sin(second + len(name)):.3f},{np.cos(second):.3f}" for second in second_R]
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    described = tmp_path / "clips.toml"
    stems = [Path(name).stem for name in names]
    described.write_text(CLIPS.format(validation=stems[: len(names) // 2]))
    store = tmp_path / "store.zarr"
    wanted = read_recipe(ExtractRecipe, shipped("extract", "demo"), ["image_rate=4.0", "audio.window=3.0"])
    assert not extract(open_dataset(described), wanted, store).failed
    train(store, heads_recipe(window={"seconds": 3.0, "stride": 1.0, "frames": 5}), tmp_path / "base", device="cpu")
    check_parity(tmp_path / "base", described, tmp_path / "new")


CLIPS = """
name = "clips"
layout = "csv"
root = "clips"
faces = "frames"

[labels]
path = "labels.csv"

[splits]
validation = {validation}
"""


def test_one_step_on_heads_alone_gives_the_same_loss(small_store, small_dataset, tmp_path):
    """Both ways: the loss of the first batch, and after one step of AdamW that of all windows. Nothing is dropped."""
    base = tmp_path / "base"
    still = {"fusion": HEADS["model"]["fusion"] | {"dropout": 0.0}, "head": {"hidden": 16, "dropout": 0.0}}
    train(small_store, heads_recipe(model=HEADS["model"] | still, epochs=1), base, device="cpu")
    wanted = recipe(**FROZEN, epochs=1, batch=32, optimiser={"learning_rate": 1e-2, "weight_decay": 0.0})
    finetune(base, small_dataset, wanted, tmp_path / "new", device="cpu")
    (line,) = [json.loads(text) for text in (tmp_path / "new" / "metrics.jsonl").read_text().splitlines()]

    run = load_run(base)
    data = Resident(FeatureStore.open(small_store), run.recipe).split("train", run.recipe)
    row_B = torch.arange(len(data.windows))
    batch = data.batch(row_B)
    optimizer = torch.optim.AdamW(run.estimator.parameters(), lr=1e-2, weight_decay=0.0)

    def loss(estimator: Estimator) -> torch.Tensor:
        estimate = estimator(*batch)
        return window_loss(
            estimate.value, estimate.region_BK, data.windows, row_B, run.recipe, torch.tensor(run.recipe.loss.kl)
        )[0]

    first = loss(run.estimator)
    assert len(data.windows) <= 32, "one step is an epoch"
    optimizer.zero_grad()
    first.backward()
    optimizer.step()
    tuned = load_run(tmp_path / "new")
    with torch.no_grad():
        after = loss(tuned.estimator)
        assert after.item() == pytest.approx(loss(run.estimator).item(), abs=1e-3)
        assert after.item() < first.item() - 0.01, "the step did something"
    assert line["train"]["loss"] == pytest.approx(first.item(), abs=1e-3)


def test_a_difference_that_rounding_does_not_explain_is_told():
    assert remark("validation", BOUND) is None
    assert "0.300" in remark("validation", 0.3)
    assert BOUND < REMARKABLE


def test_media_that_are_not_what_the_store_was_made_of_are_told(base, small_dataset, tmp_path, monkeypatch):
    """Of the same names and sizes, but other pictures: each crop upside down."""
    collate = session.collate

    def upside_down(windows, *, pinned):
        batch = collate(windows, pinned=pinned)
        return RawBatch(255 - batch.image_BTSSC.flip(2), batch.mel_BFM)

    monkeypatch.setattr(session, "collate", upside_down)
    result = finetune(base, small_dataset, recipe(**FROZEN, epochs=1), tmp_path / "new", device="cpu")
    assert evaluate(tmp_path / "new", device="cpu").result["official"]["frames"] > 0  # of the store as it is
    assert result.start["largest_difference"] > REMARKABLE
    assert any("not prepared alike, or are of other files" in note for note in result.notes)


def test_where_no_encoder_is_tuned_its_features_are_those_that_the_store_has(base):
    name = Path("new")
    frozen, parent = recipe(**FROZEN), load_run(base).recipe
    assert stream_of(parent, frozen, name, None) is None
    assert stream_of(parent.model_copy(update={"stream": "before"}), frozen, name, None) == "before"
    with pytest.raises(OptionError, match="--stream mine: no encoder is tuned"):
        stream_of(parent, frozen, name, "mine")
    seeing = parent.model_copy(update={"model": parent.model.model_copy(update={"modalities": ("image",)})})
    listening = recipe(image={"tune": "none"})
    assert [stream_of(one, listening, name, None) for one in (parent, seeing)] == ["new", None]
