"""A run of one modality is judged, submitted, explained and averaged on a store that has nothing else."""

import shutil

import numpy as np
import pytest

from tests.evaluation.templates import write_template
from tests.planted import plant_store
from tests.training.small import SMALL, recipe
from vaprompt import FeatureStore, load_run
from vaprompt.errors import StoreError
from vaprompt.evaluation.evaluate import evaluate
from vaprompt.evaluation.submission import submit
from vaprompt.report.explaining import explain
from vaprompt.training.run import train


@pytest.mark.parametrize(("only", "other"), [("image", "audio"), ("audio", "image")])
def test_scores_and_rows_are_those_on_a_store_with_both(only: str, other: str, tmp_path):
    both = plant_store(tmp_path / "both.zarr", train=3, validation=2, test=1, seconds=20.0)
    alone = tmp_path / "alone.zarr"
    shutil.copytree(both, alone)
    shutil.rmtree(alone / other)
    wanted = recipe(model=SMALL["model"] | {"modalities": [only]}, epochs=1)
    train(both, wanted, tmp_path / "run", device="cpu")
    judged = [evaluate(tmp_path / "run", store=store, split="both", device="cpu").result for store in (both, alone)]
    for key in ("official", "paper_subset", "interval", "ridge", "videos", "splits"):
        assert judged[0][key] == judged[1][key]
    assert judged[1]["ridge"]["official"]["mean"] is not None
    frames = len(FeatureStore.open(both).labels("video5").time_F)
    rows = write_template(tmp_path / "template.txt", [("video5", frame + 1) for frame in range(frames)])
    written = []
    for store in (both, alone):
        submit([tmp_path / "run"], store=store, template=rows, out=tmp_path / "mine.txt", device="cpu")
        written.append((tmp_path / "mine.txt").read_text())
    assert written[0] == written[1]
    run = load_run(tmp_path / "run")
    one, two = (explain(run, FeatureStore.open(store), "video0") for store in (both, alone))
    np.testing.assert_array_equal(one.region_WK, two.region_WK)
    with pytest.raises(StoreError, match=f"no stream '{other}'"):
        train(alone, recipe(epochs=1), tmp_path / "needs both", device="cpu")
