"""A batch on its way to an encoder and back is what it was, however its parts lie in memory."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vaprompt.errors import WeightsError
from vaprompt.extraction.handover import pictures_together, stored, windows_on

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def windows(generator, length, step, count, kind):
    """Return windows of a random sound: as views of it, as a copy, or as views that lie otherwise."""
    sound_M = generator.standard_normal((count - 1) * step + length).astype(np.float32)
    window_KL = np.lib.stride_tricks.sliding_window_view(sound_M, length)[::step]
    if kind == "backwards":
        return window_KL[::-1]
    if kind == "every second sample":
        return np.repeat(window_KL, 2, axis=1)[:, ::2]
    return window_KL if kind == "views" else window_KL.copy()


@pytest.mark.parametrize("device", DEVICES)
@given(
    parts=st.lists(
        st.tuples(
            st.integers(1, 40),
            st.integers(1, 6),
            st.sampled_from(["views", "copy", "backwards", "every second sample"]),
        ),
        min_size=1,
        max_size=5,
    ),
    length=st.integers(1, 30),
    cut=st.integers(0, 3),
)
@settings(max_examples=60)
def test_windows_arrive_as_they_were(device, parts, length, cut):
    generator = np.random.default_rng(0)
    part_KLs = [windows(generator, length, step, count, kind) for step, count, kind in parts]
    # A part that did not fit into the batch before.
    part_KLs = [part_KL[min(cut, len(part_KL) - 1) :] for part_KL in part_KLs]
    found_BL = windows_on(part_KLs, device)
    assert found_BL.device.type == device
    np.testing.assert_array_equal(found_BL.cpu().numpy(), np.concatenate(part_KLs))


def test_overlapping_windows_go_to_another_device_once(monkeypatch):
    sent = []

    # What is not waited for could be released, and used again, before such a device has read it.
    def to(tensor, _, *, non_blocking=False):
        sent.append((tensor.numel(), non_blocking))
        return tensor

    monkeypatch.setattr(torch.Tensor, "to", to)
    sound_M = np.arange(1000, dtype=np.float32)
    window_KL = np.lib.stride_tricks.sliding_window_view(sound_M, 100)[::10]
    found_BL = windows_on([window_KL, window_KL[5:7]], "meta")
    np.testing.assert_array_equal(found_BL.numpy(), np.concatenate((window_KL, window_KL[5:7])))
    assert sent == [(1000 + 110, False)]


@pytest.mark.parametrize("device", DEVICES)
def test_pictures_arrive_as_they_were(device):
    generator = np.random.default_rng(0)
    parts = [generator.integers(0, 256, (count, 5, 7, 3), dtype=np.uint8) for count in (1, 4, 2)]
    np.testing.assert_array_equal(pictures_together(parts, device), np.concatenate(parts))


@pytest.mark.parametrize("device", DEVICES)
def test_embeddings_come_back_rounded(device):
    embedding_BD = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    embedding_BD[0, :2] = torch.tensor([65504.0, -65504.0])
    found_BD = stored(embedding_BD.to(device), "image")
    assert found_BD.dtype == np.float16
    np.testing.assert_array_equal(found_BD, embedding_BD.numpy().astype(np.float16))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("value", [65505.0, -1e9, float("inf"), float("nan")])
def test_what_does_not_fit_is_refused(device, value):
    embedding_BD = torch.zeros(50, 7, device=device)
    embedding_BD[31, 3] = value
    with pytest.raises(WeightsError, match=r"audio\.weights.*too large for float16.*audio\.precision = fp32"):
        stored(embedding_BD, "audio")
