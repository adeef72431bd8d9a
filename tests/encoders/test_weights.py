"""Weights are found without a network, known by their tensors, and never read from a pickle."""

import logging
import socket

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from vaprompt.encoders import fetch as fetching
from vaprompt.encoders.clip_form import image_fingerprint
from vaprompt.encoders.fetch import fetch
from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.encoders.weights import available, tensor_digest
from vaprompt.errors import RecipeError, TargetError, WeightsError
from vaprompt.recipes import validated


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """Give every test a cache of the hub without anything in it, and no way to any network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def refuse(*_):
        raise AssertionError("something reached for the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize(
    ("load", "recipe", "stream"),
    [(image_encoder, ImageEncoderRecipe(), "image"), (audio_encoder, AudioEncoderRecipe(), "audio")],
)
def test_missing_weights_say_how_to_get_them(load, recipe, stream):
    with pytest.raises(WeightsError) as error:
        load(recipe)
    message = str(error.value)
    assert "vaprompt weights fetch RECIPE --to DIR" in message
    assert f"--set {stream}.weights=" in message
    assert "\n" not in message


def test_a_tokenizer_that_is_not_at_hand_is_not_downloaded():
    with pytest.raises(WeightsError, match="is not in this machine's cache"):
        image_encoder(ImageEncoderRecipe(model="roberta-ViT-B-32", weights="random:0"))


def test_a_tag_that_is_unknown_comes_with_those_that_are_known():
    with pytest.raises(WeightsError, match="its tags are: openai, "):
        image_fingerprint(ImageEncoderRecipe(weights="laion2b_s34b_b88k"))


@pytest.mark.parametrize("weights", ["random:", "random:x", "random:-1", "random:1.5"])
def test_a_seed_must_be_a_whole_number(weights):
    with pytest.raises(RecipeError, match="write random:0"):
        image_fingerprint(ImageEncoderRecipe(weights=weights))


def test_the_miniatures_weights_fit_the_miniatures_alone():
    with pytest.raises(RecipeError, match="set both"):
        validated(ImageEncoderRecipe, {"weights": "embedded"}, where="here")


@pytest.mark.parametrize("name", ["weights.pt", "pytorch_model.bin"])
def test_pickles_are_refused(tmp_path, name):
    torch.save({"x": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(WeightsError, match=r"is not a \.safetensors file"):
        image_fingerprint(ImageEncoderRecipe(weights=str(tmp_path / name)))


@pytest.mark.parametrize("content", [b"", b"text named so", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]"])
def test_what_is_not_safetensors_is_refused(tmp_path, content):
    file = tmp_path / "w.safetensors"
    file.write_bytes(content)
    with pytest.raises(WeightsError, match="is not a safetensors file"):
        tensor_digest(file)


def test_a_file_cut_short_is_refused(tmp_path):
    file = tmp_path / "w.safetensors"
    save_file({"x": torch.zeros(1000)}, file)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(WeightsError, match="cut short"):
        tensor_digest(file)


def test_a_digest_is_of_the_tensors_and_not_of_the_file(tmp_path):
    one, two = torch.arange(6.0).reshape(2, 3), torch.ones(2, dtype=torch.float16)
    save_file({"a": one, "b": two}, tmp_path / "1.safetensors")
    save_file({"b": two, "a": one}, tmp_path / "2.safetensors", metadata={"by": "someone"})
    save_file({"a": one.reshape(3, 2), "b": two}, tmp_path / "3.safetensors")
    save_file({"a": one + 1, "b": two}, tmp_path / "4.safetensors")
    first, second, *others = (tensor_digest(tmp_path / f"{n}.safetensors") for n in (1, 2, 3, 4))
    assert first == second
    assert len({first, *others}) == 3


def test_the_same_tensors_in_a_file_or_folder_are_the_same_encoder(tmp_path):
    recipe = ImageEncoderRecipe(model="embedded", weights="random:3")
    tensors = {name: tensor.contiguous() for name, tensor in image_encoder(recipe)._network.state_dict().items()}
    save_file(tensors, tmp_path / "open_clip_model.safetensors")
    encoders = [
        image_encoder(ImageEncoderRecipe(model="embedded", weights=str(place)))
        for place in (tmp_path, tmp_path / "open_clip_model.safetensors")
    ]
    assert encoders[0].fingerprint == encoders[1].fingerprint
    for encoder in encoders:
        torch.testing.assert_close(encoder.encode_text(["a"]), image_encoder(recipe).encode_text(["a"]))


def test_availability_is_told_without_loading():
    image, audio = available(ImageEncoderRecipe(model="embedded", weights="random:3"), AudioEncoderRecipe())
    assert (image.stream, image.where, image.fault) == ("image", "random:3", None)
    assert audio.where is None
    assert audio.fault is not None
    assert "weights fetch" in audio.fault


def test_fetched_weights_are_complete_and_named_in_overrides(tmp_path, monkeypatch):
    asked = []

    def download(repository, name):
        asked.append((repository, name))
        source = tmp_path / "source"
        if name.endswith(".safetensors"):
            save_file({"x": torch.zeros(2)}, source)
        else:
            source.write_text("{}")
        return str(source)

    monkeypatch.setattr(fetching, "hf_hub_download", download)
    overrides = fetch(ImageEncoderRecipe(), AudioEncoderRecipe(), tmp_path / "w")
    assert overrides == {"image.weights": str(tmp_path / "w/image"), "audio.weights": str(tmp_path / "w/audio")}
    assert asked[0] == ("timm/vit_base_patch16_clip_224.openai", "open_clip_model.safetensors")
    assert {path.name for path in (tmp_path / "w").rglob("*") if path.is_file()} == {
        "open_clip_model.safetensors",
        "open_clip_config.json",
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
    }
    fingerprint = image_fingerprint(ImageEncoderRecipe(weights=overrides["image.weights"]))
    assert fingerprint["weights"].startswith("sha256:")
    assert fingerprint["mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    with pytest.raises(WeightsError, match="QuickGELU"):
        image_fingerprint(ImageEncoderRecipe(model="ViT-B-16", weights=overrides["image.weights"]))


def test_nothing_is_fetched_for_what_is_at_hand(tmp_path):
    embedded = ImageEncoderRecipe(model="embedded", weights="embedded"), AudioEncoderRecipe(kind="logmel")
    assert fetch(*embedded, tmp_path / "w") == {}
    assert not (tmp_path / "w").exists()


def test_fetching_without_a_network_is_one_line(tmp_path, monkeypatch):
    told = []

    def download(*_):
        told.append(logging.getLogger("huggingface_hub.utils").isEnabledFor(logging.WARNING))
        raise LocalEntryNotFoundError("no such file in the cache\nand more") from OSError("no network\nat all")

    monkeypatch.setattr(fetching, "hf_hub_download", download)
    with pytest.raises(WeightsError, match=r"cannot be downloaded \(no network\)") as error:
        fetch(ImageEncoderRecipe(), AudioEncoderRecipe(), tmp_path / "w")
    assert told == [False]
    assert logging.getLogger("huggingface_hub.utils").isEnabledFor(logging.WARNING)
    assert "\n" not in str(error.value)
    assert not [path for path in (tmp_path / "w").rglob("*") if path.is_file()]
    (tmp_path / "file").write_text("x")
    with pytest.raises(TargetError):
        fetch(ImageEncoderRecipe(), AudioEncoderRecipe(), tmp_path / "file" / "w")
