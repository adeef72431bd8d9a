"""The released code's picture of sound: parity with torchaudio's modules, of which method.md gives the settings."""

import pytest
import torch
import torchaudio

from vaprompt.media.decibel import decibel_mel
from vaprompt.media.recipes import DecibelRecipe

RATE = 16000


def sounds() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    second = torch.arange(10 * RATE) / RATE
    return {
        "noise": 0.1 * torch.randn(10 * RATE, generator=generator),
        "chirp": 0.3 * torch.sin(2 * torch.pi * (100 + 300 * second) * second),
        "silence then noise": torch.cat((torch.zeros(6 * RATE), 0.5 * torch.randn(4 * RATE, generator=generator))),
        "short": 0.1 * torch.randn(RATE // 2, generator=generator),
    }


# 128 bands over 513 frequencies leave the lowest bands without any: as released.
@pytest.mark.filterwarnings("ignore:At least one mel filterbank has all zero values:UserWarning")
@pytest.mark.parametrize("name", sounds())
def test_it_is_what_torchaudio_makes_with_the_released_settings(name):
    wave_1L = sounds()[name][None]
    mel = torchaudio.transforms.MelSpectrogram(RATE, n_fft=1024, hop_length=512, n_mels=128)(wave_1L)
    decibel_MF = torchaudio.transforms.AmplitudeToDB()(mel)[0]
    expected_FM = (0.5 * (decibel_MF - decibel_MF.mean()) / decibel_MF.std()).T
    picture_FM = decibel_mel(wave_1L, DecibelRecipe())[0]
    assert picture_FM.shape == (1024, 128)
    heard = len(expected_FM)
    torch.testing.assert_close(picture_FM[:heard], expected_FM, atol=2e-4, rtol=0)
    assert torch.all(picture_FM[heard:] == 0)


def test_ten_seconds_fill_313_of_the_columns():
    picture_FM = decibel_mel(sounds()["noise"][None], DecibelRecipe())[0]
    assert (picture_FM != 0).any(dim=1).sum() == 313


def test_silence_is_zeros_and_a_moment_is_finite():
    assert torch.all(decibel_mel(torch.zeros(1, 10 * RATE), DecibelRecipe()) == 0)
    assert torch.isfinite(decibel_mel(torch.ones(1, 1), DecibelRecipe())).all()


def test_a_longer_sound_is_cut():
    recipe = DecibelRecipe(frames=40)
    wave_1L = sounds()["noise"][None]
    torch.testing.assert_close(
        decibel_mel(wave_1L, recipe), decibel_mel(wave_1L, DecibelRecipe())[:, :40], atol=1e-6, rtol=0
    )


def test_a_batch_is_its_sounds_one_by_one():
    wave_BL = 0.1 * torch.randn(3, RATE, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([decibel_mel(wave_BL[i : i + 1], DecibelRecipe(frames=64)) for i in range(3)])
    torch.testing.assert_close(decibel_mel(wave_BL, DecibelRecipe(frames=64)), alone, atol=1e-5, rtol=0)
