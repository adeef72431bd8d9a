"""The label that a window is trained on is that of the frame on screen at its end, never of one after it."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planted import FINGERPRINTS, plant_store
from tests.test_windows import videos
from vaprompt.store import FeatureStore
from vaprompt.training.data import Resident, labelled_windows
from vaprompt.training.recipe import TrainRecipe
from vaprompt.windows import WindowRecipe


@settings(max_examples=150)
@given(videos(), st.floats(0.1, 3), st.integers(1, 30), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_any_rate_gaps_and_invalid_stretches(video, stride, frames, share, seed):
    time_F, exists_N, audio_end_A, seconds = video
    valid_F = np.random.default_rng(seed).random(len(time_F)) < share
    recipe = WindowRecipe(seconds=seconds, stride=stride, frames=frames)
    windows = labelled_windows(time_F, time_F[exists_N], audio_end_A, valid_F, recipe)
    following = np.append(time_F, np.inf)[windows.target_W + 1]
    assert np.all(time_F[windows.target_W] <= windows.end_W + 2e-6)
    assert np.all(following > windows.end_W), "the frame on screen, not one before it"
    assert valid_F[windows.target_W].all()
    image_time_WT = time_F[exists_N][windows.image_WT]
    assert np.all(image_time_WT <= windows.end_W[:, None] + 2e-6), "nothing from after the end is seen"
    stride_W = (windows.end_W - seconds) / stride
    np.testing.assert_allclose(stride_W, np.rint(stride_W), atol=1e-6)


def test_labels_reach_the_batch_with_their_frames(tmp_path):
    """Labels that spell their frame's number, through the store and into the tensors that are trained on."""
    path = plant_store(tmp_path / "spelled.zarr", train=2, validation=1, seconds=40.0, rate=12.5)
    store = FeatureStore.open(path)
    for video in store.videos():
        labels = store.labels(video)
        frame_F = np.arange(1, len(labels.time_F) + 1)
        value_F2 = np.stack([frame_F / 1000, -frame_F / 1000], axis=1).astype(np.float32)
        split = store.split(video)
        with store.writer("labels", video, FINGERPRINTS["labels"]) as writer:
            writer.append(value=value_F2, valid=labels.valid_F, time=labels.time_F)
            writer.publish({"split": split, "counts": {}, "notes": []})
    read = Resident(FeatureStore.open(path), TrainRecipe()).split("train", TrainRecipe())
    window = TrainRecipe().window
    expected = []
    for video in read.videos:
        labels = store.labels(video)
        ends = np.arange(window.seconds, labels.time_F[-1] + 1e-6, window.stride)
        # Written from the definition: the greatest frame that has begun by then, at 12.5 frames a second.
        frames = [int(end * 12.5 + 1e-6) + 1 for end in ends]
        expected += [frame / 1000 for frame in frames if labels.valid_F[frame - 1]]
    np.testing.assert_allclose(read.windows.value_W2[:, 0].numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(read.windows.value_W2[:, 1].numpy(), -np.array(expected), atol=1e-6)
