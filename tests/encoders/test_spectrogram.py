"""AST's patches become a sequence over time, and weights are found in every form in which they are published."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ASTModel

from vaprompt.encoders import embedded
from vaprompt.encoders.ast_form import audio_fingerprint
from vaprompt.encoders.pooling import patches_over_time, pooled
from vaprompt.encoders.recipes import AudioEncoderRecipe
from vaprompt.encoders.registry import audio_encoder
from vaprompt.errors import RecipeError, WeightsError
from vaprompt.media.logmel import LogMelRecipe, log_mel

TINY = AudioEncoderRecipe(model="embedded", weights="random:0")
SMALL = ASTConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_mel_bins=64, max_length=200
)


@given(bands=st.integers(1, 5), steps=st.integers(1, 7), seed=st.integers(0, 99))
def test_patches_are_pooled_like_an_explicit_loop(bands, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    patch_BPD = torch.randn(2, bands * steps, 3, generator=generator)
    expected_BSD = torch.zeros(2, steps, 3)
    for step in range(steps):
        for band in range(bands):
            expected_BSD[:, step] += patch_BPD[:, band * steps + step] / bands
    torch.testing.assert_close(patches_over_time(patch_BPD, bands), expected_BSD)


@given(length=st.integers(1, 120), steps=st.integers(1, 120))
def test_steps_are_means_over_equal_shares_of_time(length, steps):
    sequence_BSD = torch.randn(1, length, 2, generator=torch.Generator().manual_seed(0))
    shares = ((i * length // steps, -(-(i + 1) * length // steps)) for i in range(steps))
    expected = torch.stack([sequence_BSD[:, start:end].mean(dim=1) for start, end in shares], dim=1)
    torch.testing.assert_close(pooled(sequence_BSD, steps), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_sound_at_one_time_is_heard_at_that_step_alone():
    """Fault 6: read without unfolding, the tokens sweep over time once for each band."""
    torch.manual_seed(0)
    embeddings = ASTModel(SMALL).eval().embeddings
    bands, steps, special = 5, 19, 2  # (64 - 16) // 10 + 1, (200 - 16) // 10 + 1, CLS and distillation
    silent_BFM = torch.zeros(1, 200, 64)
    for frame in (0, 57, 100, 195):
        clicked_BFM = silent_BFM.clone()
        clicked_BFM[:, frame] = 1
        change_BPD = (embeddings(clicked_BFM) - embeddings(silent_BFM))[:, special:]
        change_S = patches_over_time(change_BPD, bands)[0].abs().sum(dim=1)
        covering = [step for step in range(steps) if step * 10 <= frame < step * 10 + 16]
        assert change_S.nonzero().flatten().tolist() == covering


@torch.no_grad()
def check_against_explicit_loop(recipe: AudioEncoderRecipe, config: ASTConfig, bands: int, steps: int) -> None:
    wave_BL = torch.randn(2, 160_000, generator=torch.Generator().manual_seed(1)) * 0.1
    torch.manual_seed(0)
    token_BTD = ASTModel(config).eval()(log_mel(wave_BL, LogMelRecipe())).last_hidden_state
    assert token_BTD.shape[1] == 2 + bands * steps
    sequence_BSD = audio_encoder(recipe).encode(wave_BL)
    assert sequence_BSD.shape == (2, steps, config.hidden_size)
    for step in range(steps):
        patches = [token_BTD[:, 2 + band * steps + step] for band in range(bands)]
        torch.testing.assert_close(sequence_BSD[:, step], sum(patches) / bands, atol=1e-4, rtol=1e-4)


def test_the_miniature_agrees_with_an_explicit_loop_over_patches():
    check_against_explicit_loop(TINY, ASTConfig(**embedded.ast_config()), 8, 64)


@pytest.mark.slow
def test_the_full_size_ast_agrees_with_an_explicit_loop_over_patches():
    recipe = AudioEncoderRecipe(weights="random:0")
    assert audio_encoder(recipe).steps == 101
    check_against_explicit_loop(recipe, ASTConfig(), 12, 101)


def test_steps_of_a_recipe_are_those_of_the_encoder():
    wave_BL = torch.randn(1, 160_000) * 0.1
    full_BSD = audio_encoder(TINY).encode(wave_BL)
    pooled_encoder = audio_encoder(TINY.model_copy(update={"steps": 20}))
    assert pooled_encoder.steps == 20
    torch.testing.assert_close(pooled_encoder.encode(wave_BL), pooled(full_BSD, 20), atol=1e-5, rtol=1e-5)
    with pytest.raises(RecipeError, match=r"audio\.steps = 65: is more than the 64 time steps"):
        audio_fingerprint(TINY.model_copy(update={"steps": 65}))


@pytest.mark.parametrize("recipe", [TINY, AudioEncoderRecipe(kind="logmel")])
def test_a_window_ends_within_what_the_encoder_takes(recipe):
    longest = LogMelRecipe().reach
    assert longest == 10.255
    wave_BL = torch.zeros(2, round(longest * 16000))
    wave_BL[1, -200:] = torch.randn(200)
    heard_BFM = log_mel(wave_BL, LogMelRecipe())
    assert not torch.equal(heard_BFM[0], heard_BFM[1])
    assert torch.equal(log_mel(torch.nn.functional.pad(wave_BL, (0, 160)), LogMelRecipe()), heard_BFM)
    assert audio_fingerprint(recipe.model_copy(update={"window": longest}))["window"] == longest
    with pytest.raises(RecipeError, match=r"audio\.window = 10\.5: is more than the 10\.255 s that the encoder takes"):
        audio_fingerprint(recipe.model_copy(update={"window": 10.5}))


def test_the_log_mel_picture_is_the_log_mel():
    wave_BL = torch.randn(2, 160_000) * 0.1
    recipe = AudioEncoderRecipe(kind="logmel")
    encoder = audio_encoder(recipe)
    assert (encoder.steps, encoder.dim, encoder.rate) == (1024, 128, 16000)
    torch.testing.assert_close(encoder.encode(wave_BL), log_mel(wave_BL, LogMelRecipe()))
    assert audio_encoder(recipe.model_copy(update={"steps": 256})).encode(wave_BL).shape == (2, 256, 128)
    assert audio_fingerprint(recipe)["weights"] == "none"


def test_every_published_form_gives_the_same_encoder(tmp_path, monkeypatch):
    """A folder of the encoder, a folder with a classifier around it, the hub's cache: one digest, one embedding."""
    torch.manual_seed(3)
    whole = ASTForAudioClassification(SMALL)
    whole.save_pretrained(tmp_path / "classifier")
    plain = tmp_path / "plain"
    plain.mkdir()
    tensors = load_file(tmp_path / "classifier" / "model.safetensors")
    prefix = "audio_spectrogram_transformer."
    save_file(
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}, plain / "model.safetensors"
    )
    (plain / "config.json").write_text((tmp_path / "classifier" / "config.json").read_text())
    snapshot = tmp_path / "hub" / "models--someone--ast" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for name in ("model.safetensors", "config.json"):
        (snapshot / name).symlink_to(plain / name)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    wave_BL = torch.randn(1, 32_000) * 0.1
    recipe = AudioEncoderRecipe(model="someone/ast", window=2.0)
    forms = [str(tmp_path / "classifier"), str(plain), str(plain / "model.safetensors"), "someone/ast"]
    encoders = [audio_encoder(recipe.model_copy(update={"weights": form})) for form in forms]
    with torch.no_grad():
        token_BTD = (
            whole.eval()
            .audio_spectrogram_transformer(log_mel(wave_BL, LogMelRecipe(bins=64, frames=200)))
            .last_hidden_state
        )
    for encoder in encoders:
        torch.testing.assert_close(encoder.encode(wave_BL), patches_over_time(token_BTD[:, 2:], 5))
        assert encoder.fingerprint == encoders[0].fingerprint
    assert encoders[0].fingerprint["weights"].startswith("sha256:")


@torch.no_grad()
@pytest.mark.parametrize("normalised", [True, False])
def test_sound_is_normalised_as_the_folder_says(tmp_path, normalised):
    extractor = ASTFeatureExtractor(num_mel_bins=64, max_length=200, mean=-3.1, std=2.2, do_normalize=normalised)
    network = ASTModel(SMALL).eval()
    for part in (extractor, network):
        part.save_pretrained(tmp_path)
    wave_L = torch.randn(16_000, generator=torch.Generator().manual_seed(0)) * 0.1
    mel_BFM = extractor(wave_L.numpy(), sampling_rate=16000, return_tensors="pt")["input_values"]
    encoder = audio_encoder(AudioEncoderRecipe(model="someone/ast", weights=str(tmp_path), window=1.0))
    expected_BSD = patches_over_time(network(mel_BFM).last_hidden_state[:, 2:], 5)
    torch.testing.assert_close(encoder.encode(wave_L[None]), expected_BSD, atol=1e-3, rtol=1e-3)
    assert encoder.fingerprint["log_mel"]["mean"] == (-3.1 if normalised else 0)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("preprocessor_config.json", {"mean": None}),
        ("preprocessor_config.json", {"sampling_rate": "x"}),
        ("preprocessor_config.json", {"std": 0}),
        ("preprocessor_config.json", {"std": float("inf")}),
        ("config.json", {"hidden_act": "nope"}),
        ("config.json", {"hidden_size": None}),
        ("config.json", {"hidden_size": -16}),
        ("config.json", {"num_attention_heads": 0}),
        ("config.json", {"patch_size": [16, 16]}),
    ],
)
def test_a_file_beside_the_weights_that_makes_no_sense_is_refused_by_the_field(tmp_path, name, change):
    ASTModel(SMALL).save_pretrained(tmp_path)
    ASTFeatureExtractor(num_mel_bins=64, max_length=200).save_pretrained(tmp_path)
    (tmp_path / name).write_text(json.dumps({**json.loads((tmp_path / name).read_text()), **change}))
    with pytest.raises(WeightsError, match=f"no (sense|AST has).*{next(iter(change))}: "):
        audio_encoder(AudioEncoderRecipe(model="x", weights=str(tmp_path), window=1.0))


def test_tensors_that_do_not_fit_are_counted(tmp_path):
    ASTModel(SMALL).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    with pytest.raises(WeightsError, match="does not fit") as error:
        audio_encoder(AudioEncoderRecipe(model="x", weights=str(tmp_path), window=2.0))
    assert "\n" not in str(error.value)


def test_weights_in_several_files_are_told_from_missing_ones(tmp_path):
    ASTModel(SMALL).save_pretrained(tmp_path, max_shard_size="10KB")
    with pytest.raises(WeightsError, match=r"in several files \(model\.safetensors\.index\.json\).*max_shard_size="):
        audio_fingerprint(AudioEncoderRecipe(model="x", weights=str(tmp_path)))


def test_a_folder_of_another_kind_of_model_is_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(WeightsError, match="belongs to a 'vit'"):
        audio_fingerprint(AudioEncoderRecipe(weights=str(tmp_path)))
