"""Log-Mel pictures: parity with transformers' feature extractor, and what happens at the edges."""

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from transformers import ASTFeatureExtractor

from vaprompt.media.logmel import LogMelRecipe, log_mel

RATE = 16000


def _sounds() -> dict[str, np.ndarray]:
    noise = np.random.default_rng(3)
    second = np.arange(10 * RATE) / RATE
    speech = sum(np.sin(2 * np.pi * 140 * k * second + k) / k for k in range(1, 30))
    return {
        "noise": 0.1 * noise.standard_normal(10 * RATE),
        "harmonics": 0.1 * speech * (1 + np.sin(2 * np.pi * 4 * second)),
        "soft noise with an offset": 0.3 + 0.001 * noise.standard_normal(10 * RATE),
        "silence then noise": np.concatenate((np.zeros(6 * RATE), 0.5 * noise.standard_normal(4 * RATE))),
        "silence": np.zeros(10 * RATE),
        "too long": 0.1 * noise.standard_normal(12 * RATE),
        "short": 0.1 * noise.standard_normal(RATE // 2),
    }


@pytest.mark.parametrize("name", _sounds())
def test_log_mel_is_that_of_transformers(name):
    wave = _sounds()[name].astype(np.float32)
    expected = ASTFeatureExtractor()(wave, sampling_rate=RATE, return_tensors="np")["input_values"][0]
    mel_FM = log_mel(torch.from_numpy(wave)[None], LogMelRecipe())[0].numpy()
    assert mel_FM.shape == (1024, 128)
    assert np.abs(mel_FM - expected).max() <= 1e-4


def test_a_batch_is_its_sounds_one_by_one():
    wave_BL = 0.1 * torch.randn(3, RATE, generator=torch.Generator().manual_seed(0))
    recipe = LogMelRecipe(frames=64)
    alone = torch.cat([log_mel(wave_BL[i : i + 1], recipe) for i in range(3)])
    torch.testing.assert_close(log_mel(wave_BL, recipe), alone, atol=1e-5, rtol=0)


def test_sound_shorter_than_one_frame_is_all_padding():
    recipe = LogMelRecipe()
    mel_BFM = log_mel(torch.ones(1, 399), recipe)
    assert torch.all(mel_BFM == -recipe.mean / (2 * recipe.std))


def test_what_is_kept_for_a_device_is_made_on_the_processor():
    """On a GPU, what one thread makes there is not there yet for others, which have streams of their own."""
    kept = []

    class Making(TorchFunctionMode):
        def __torch_function__(self, function, types, arguments=(), options=None):
            options = options or {}
            if function is not torch.Tensor.to and torch.device(options.get("device") or "cpu").type == "meta":
                kept.append(function)
            return function(*arguments, **options)

    wave_BL = torch.empty(2, RATE, device="meta")
    with Making():
        assert log_mel(wave_BL, LogMelRecipe()).shape == (2, 1024, 128)
    assert kept == []


def test_time_runs_along_the_frames():
    # Silence, then noise from 5 s on: the picture is dark up to frame 498 and bright after it.
    wave = torch.zeros(1, 10 * RATE)
    wave[:, 5 * RATE :] = 0.1 * torch.randn(5 * RATE, generator=torch.Generator().manual_seed(0))
    energy_F = log_mel(wave, LogMelRecipe())[0].mean(dim=1)
    assert energy_F[:497].max() < energy_F[501:998].min()
