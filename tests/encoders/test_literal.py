"""The released code's choices: each does what method.md says of it, is in the fingerprint, and comes on purpose."""

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import ASTConfig, ASTModel

from vaprompt.encoders import embedded
from vaprompt.encoders import fetch as fetching
from vaprompt.encoders.ast_form import audio_fingerprint
from vaprompt.encoders.clip_form import image_fingerprint
from vaprompt.encoders.fetch import fetch
from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.encoders.trainable import TrainableAudio, TrainableImage
from vaprompt.errors import RecipeError, WeightsError
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.media.decibel import decibel_mel
from vaprompt.media.recipes import DecibelRecipe
from vaprompt.recipes import read_recipe, shipped, validated
from vaprompt.store import FeatureStore

IMAGE = ImageEncoderRecipe(model="embedded", weights="random:0")
AUDIO = AudioEncoderRecipe(model="embedded", weights="random:0")
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def digest(fingerprint: dict) -> str:
    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "overrides", "image", "audio"),
    [
        ("paper", ["image.weights=random:0", "audio.weights=random:0"], "18495b504ffdd928", "707ca0338bcb5fcd"),
        ("baseline", ["image.weights=random:0"], "6753f83573e2689f", "1571f9ac4c0a1fe3"),
        ("demo", [], "4f9c196c33f42ba6", "2662b6e333040317"),
    ],
)
def test_stores_that_were_made_before_these_fields_still_fit(name, overrides, image, audio):
    recipe = read_recipe(ExtractRecipe, shipped("extract", name), overrides)
    assert digest(image_fingerprint(recipe.image)) == image
    assert digest(audio_fingerprint(recipe.audio)) == audio


@pytest.mark.parametrize("field", [{"normalisation": "imagenet"}, {"activation": "model"}])
def test_every_field_of_pictures_is_in_the_fingerprint(field):
    assert image_fingerprint(IMAGE.model_copy(update=field)) != image_fingerprint(IMAGE)


@pytest.mark.parametrize("field", [{"spectrogram": "decibel"}, {"output": "tokens"}])
def test_every_field_of_sound_is_in_the_fingerprint(field):
    fingerprint = audio_fingerprint(AUDIO.model_copy(update=field))
    assert fingerprint != audio_fingerprint(AUDIO)
    assert audio_encoder(AUDIO.model_copy(update=field)).fingerprint == fingerprint


@torch.no_grad()
def test_pictures_are_brought_to_imagenets_mean_when_asked():
    picture_BHWC = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    torch.manual_seed(0)
    import open_clip

    network = open_clip.CLIP(**embedded.clip_config()["model_cfg"]).eval()
    mean, std = (torch.tensor(values) for values in IMAGENET)
    input_BCHW = ((torch.from_numpy(picture_BHWC) / 255 - mean) / std).permute(0, 3, 1, 2)
    recipe = IMAGE.model_copy(update={"normalisation": "imagenet"})
    expected_BD = network.encode_image(input_BCHW)
    torch.testing.assert_close(image_encoder(recipe).encode(picture_BHWC), expected_BD, atol=1e-4, rtol=1e-4)
    learning = TrainableImage(recipe).eval()(torch.from_numpy(picture_BHWC))
    torch.testing.assert_close(learning, expected_BD, atol=1e-4, rtol=1e-4)


def quick_folder(folder):
    """Write random weights of a ViT whose config says that they were trained with QuickGELU."""
    import open_clip

    torch.manual_seed(1)
    network = open_clip.create_model("ViT-S-32-alt")
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text('{"model_cfg": {"quick_gelu": true}}')
    return network.eval()


@torch.no_grad()
def test_the_other_activation_is_taken_where_it_is_asked_for_and_refused_elsewhere(tmp_path):
    network = quick_folder(tmp_path)
    recipe = ImageEncoderRecipe(model="ViT-S-32-alt", weights=str(tmp_path))
    with pytest.raises(WeightsError, match=r"were trained with QuickGELU, but ViT-S-32-alt is built with plain GELU"):
        image_fingerprint(recipe)
    asked = recipe.model_copy(update={"activation": "model"})
    assert isinstance(network.visual.transformer.resblocks[0].mlp.gelu, torch.nn.GELU)
    size = image_fingerprint(asked)["size"]
    picture_BHWC = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    encoder = image_encoder(asked)
    mean, std = (torch.tensor(encoder.fingerprint[key]) for key in ("mean", "std"))
    input_BCHW = ((torch.from_numpy(picture_BHWC) / 255 - mean) / std).permute(0, 3, 1, 2)
    torch.testing.assert_close(encoder.encode(picture_BHWC), network.encode_image(input_BCHW), atol=1e-4, rtol=1e-4)


def test_of_openais_tag_the_check_alone_is_left_out(tmp_path, monkeypatch):
    """Nothing is at hand here: what is refused without asking is missing when asked for."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    recipe = ImageEncoderRecipe(model="ViT-B-16", weights="openai")
    with pytest.raises(WeightsError, match="plain GELU"):
        image_fingerprint(recipe)
    with pytest.raises(WeightsError, match="is not in this machine's cache"):
        image_fingerprint(recipe.model_copy(update={"activation": "model"}))


def test_fetched_weights_say_how_they_were_trained_and_not_how_they_are_used(tmp_path, monkeypatch):
    """Else the folder that is fetched for the literal recipe would pass as plain GELU's everywhere."""

    def download(repository, name):
        save_file({"x": torch.zeros(2)}, tmp_path / "source")
        return str(tmp_path / "source")

    monkeypatch.setattr(fetching, "hf_hub_download", download)
    literal = ImageEncoderRecipe(model="ViT-B-16", weights="openai", activation="model")
    found = fetch(literal, AudioEncoderRecipe(kind="logmel"), tmp_path / "w")["image.weights"]
    assert image_fingerprint(literal.model_copy(update={"weights": found}))["weights"].startswith("sha256:")
    with pytest.raises(WeightsError, match="QuickGELU"):
        image_fingerprint(ImageEncoderRecipe(model="ViT-B-16", weights=found))
    assert image_fingerprint(ImageEncoderRecipe(weights=found))["model"] == "ViT-B-16-quickgelu"


@torch.no_grad()
@pytest.mark.parametrize("spectrogram", ["weights", "decibel"])
def test_tokens_are_the_networks_own_but_for_cls(spectrogram):
    wave_BL = 0.1 * torch.randn(2, 160_000, generator=torch.Generator().manual_seed(1))
    recipe = AUDIO.model_copy(update={"output": "tokens", "spectrogram": spectrogram})
    encoder = audio_encoder(recipe)
    torch.manual_seed(0)
    network = ASTModel(ASTConfig(**embedded.ast_config())).eval()
    if spectrogram == "decibel":
        mel_BFM = decibel_mel(wave_BL, DecibelRecipe())
    else:
        from vaprompt.media.logmel import log_mel
        from vaprompt.media.recipes import LogMelRecipe

        mel_BFM = log_mel(wave_BL, LogMelRecipe())
    expected_BSD = network(mel_BFM).last_hidden_state[:, 1:]
    assert encoder.steps == expected_BSD.shape[1] == 1 + 8 * 64
    torch.testing.assert_close(encoder.encode(wave_BL), expected_BSD, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(TrainableAudio(recipe).eval()(mel_BFM), expected_BSD, atol=1e-4, rtol=1e-4)


def test_the_shipped_recipe_is_what_the_released_code_does():
    recipe = read_recipe(
        ExtractRecipe, shipped("extract", "literal"), ["image.weights=random:0", "audio.weights=random:0"]
    )
    image, audio = image_fingerprint(recipe.image), audio_fingerprint(recipe.audio)
    assert (image["model"], tuple(image["mean"]), tuple(image["std"])) == ("ViT-B-16", *IMAGENET)
    assert audio["steps"] == 1213
    mel = audio["log_mel"]
    assert (mel["kind"], mel["fft"], mel["hop"], mel["spread"]) == ("decibel", 1024, 512, 0.5)
    size = audio["steps"] * 768 * 2
    windows = 29.5 * 3600 / recipe.audio.hop
    assert size * windows / 1e9 == pytest.approx(63, abs=4), "as the recipe says"


def test_what_does_not_go_together_is_refused():
    for fields, said in (
        ({"kind": "logmel", "output": "tokens"}, 'goes with kind = "ast"'),
        ({"kind": "logmel", "spectrogram": "decibel"}, 'goes with kind = "ast"'),
        ({"output": "tokens", "steps": 20}, "leave steps out"),
    ):
        with pytest.raises(RecipeError, match=said):
            validated(AudioEncoderRecipe, fields, where="here")


def test_a_window_larger_than_a_chunk_is_a_chunk_of_its_own(tmp_path):
    store = FeatureStore.create(tmp_path / "s.zarr")
    token_WSD = np.random.default_rng(0).normal(size=(5, 1213, 768)).astype(np.float16)
    with store.writer("audio", "v", {}) as writer:
        for index, row_WSD in enumerate(np.split(token_WSD, 5)):
            writer.append(embedding=row_WSD, end=np.array([10.0 + index]))
        writer.publish({"split": "train", "counts": {"windows": 5, "seconds": 14.0}, "notes": []})
    np.testing.assert_array_equal(FeatureStore.open(store.path).audio("v").embedding_WSD, token_WSD)
    chunks = [path for path in (store.path / "audio/v/embedding/c").rglob("*") if path.is_file()]
    assert len(chunks) == 5
