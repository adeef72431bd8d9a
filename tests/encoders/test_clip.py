"""The image encoder is open_clip's own, fed with the same pictures; what does not belong together is refused."""

import json
from dataclasses import asdict

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file

from tests.encoders.pictures import pictures
from vaprompt.encoders import embedded
from vaprompt.encoders.clip import OpenClipEncoder
from vaprompt.encoders.clip_form import image_fingerprint
from vaprompt.encoders.recipes import ImageEncoderRecipe
from vaprompt.encoders.registry import image_encoder
from vaprompt.errors import RecipeError, WeightsError

TINY = ImageEncoderRecipe(model="embedded", weights="random:0")


def own_network(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return open_clip.CLIP(**embedded.clip_config()["model_cfg"]).eval()


def cosine(left: torch.Tensor, right: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(left, right).min())


@torch.no_grad()
def least_cosine(encoder: OpenClipEncoder, network: torch.nn.Module) -> float:
    """Return the least cosine between our embeddings and those of open_clip's own transform and network."""
    fingerprint = encoder.fingerprint
    transform = image_transform_v2(
        PreprocessCfg(size=fingerprint["size"], mean=tuple(fingerprint["mean"]), std=tuple(fingerprint["std"])),
        is_train=False,
    )
    return min(
        cosine(
            encoder.encode(picture_HWC[None]),
            network.encode_image(transform(Image.fromarray(picture_HWC)).unsqueeze(0)),
        )
        for picture_HWC in pictures().values()
    )


@pytest.mark.parametrize("weights", ["random:0", "embedded"])
def test_pictures_are_prepared_like_open_clips(weights):
    network = own_network(0)
    if weights == "embedded":
        open_clip.load_checkpoint(network, str(embedded.CLIP_WEIGHTS))
    assert least_cosine(image_encoder(ImageEncoderRecipe(model="embedded", weights=weights)), network) >= 0.999


@pytest.mark.slow
def test_pictures_are_prepared_like_open_clips_full_size():
    encoder = image_encoder(ImageEncoderRecipe(weights="random:0"))
    torch.manual_seed(0)
    network = open_clip.create_model("ViT-B-16-quickgelu").eval()
    assert least_cosine(encoder, network) >= 0.999


@torch.no_grad()
def test_embeddings_are_the_projection_not_normalised():
    picture_BHWC = pictures()["crop"][None]
    embedding_BD = image_encoder(TINY).encode(picture_BHWC)
    mean, std = (torch.tensor(embedded.clip_config()["preprocess_cfg"][key]) for key in ("mean", "std"))
    input_BCHW = ((torch.from_numpy(picture_BHWC) / 255 - mean) / std).permute(0, 3, 1, 2)
    network = own_network(0)
    torch.testing.assert_close(embedding_BD, network.encode_image(input_BCHW, normalize=False), atol=1e-4, rtol=1e-4)
    assert abs(float(embedding_BD.norm()) - 1) > 0.01
    text_PD = image_encoder(TINY).encode_text(["a face", "a smile"])
    expected_PD = network.encode_text(embedded.tokenize(["a face", "a smile"]), normalize=False)
    torch.testing.assert_close(text_PD, expected_PD)
    assert text_PD.shape[1] == embedding_BD.shape[1] == image_encoder(TINY).dim


def test_a_batch_is_its_pictures():
    encoder = image_encoder(TINY)
    batch_BHWC = np.stack([pictures()["crop"], pictures()["crop"][::-1], pictures()["crop"][:, ::-1]])
    singly = torch.cat([encoder.encode(picture_HWC[None]) for picture_HWC in batch_BHWC])
    torch.testing.assert_close(encoder.encode(batch_BHWC), singly, atol=1e-5, rtol=1e-5)


def test_random_weights_are_their_seed_and_disturb_no_other_chance():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, second, other = (
        image_encoder(TINY.model_copy(update={"weights": f"random:{seed}"})).encode_text(["a"]) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, second)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize(
    "recipe", [TINY, ImageEncoderRecipe(weights="random:0"), ImageEncoderRecipe(model="ViT-B-32", weights="random:5")]
)
def test_the_fingerprint_is_known_before_loading(recipe):
    fingerprint = image_fingerprint(recipe)
    assert fingerprint["weights"] == recipe.weights
    assert fingerprint["model"] == recipe.model
    assert fingerprint["mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    assert fingerprint["std"] == pytest.approx([0.26862954, 0.26130258, 0.27577711])
    if recipe is TINY:
        assert image_encoder(recipe).fingerprint == fingerprint


def test_bf16_stays_near_fp32():
    picture_BHWC = pictures()["crop"][None]
    half = image_encoder(TINY.model_copy(update={"precision": "bf16"}))
    assert cosine(half.encode(picture_BHWC), image_encoder(TINY).encode(picture_BHWC)) > 0.999
    assert half.encode_text(["a"]).dtype == torch.float32
    assert half.fingerprint != image_encoder(TINY).fingerprint


@torch.no_grad()
@pytest.mark.parametrize("resize", ["squash", "shortest"])
def test_other_ways_of_resizing_agree_with_open_clip(monkeypatch, resize):
    config = embedded.clip_config()
    config["preprocess_cfg"] |= {"resize_mode": resize, "interpolation": "bilinear"}
    monkeypatch.setattr(embedded, "clip_config", lambda: config)
    encoder = image_encoder(TINY)
    preprocessing = {**config["preprocess_cfg"], "mean": tuple(encoder.fingerprint["mean"])}
    transform = image_transform_v2(PreprocessCfg(**preprocessing), is_train=False)
    network = own_network(0)
    for picture_HWC in pictures().values():
        theirs = network.encode_image(transform(Image.fromarray(picture_HWC)).unsqueeze(0))
        assert cosine(encoder.encode(picture_HWC[None]), theirs) >= 0.999


def test_quickgelu_weights_in_a_plain_gelu_model_are_refused():
    """Fault 10: open_clip only warns of it."""
    with pytest.raises(WeightsError, match=r"QuickGELU.*ViT-B-16 is built with plain GELU.*ViT-B-16-quickgelu"):
        image_encoder(ImageEncoderRecipe(model="ViT-B-16", weights="openai"))


def test_a_folder_that_says_quickgelu_is_refused_by_a_plain_model(tmp_path):
    """Fault 10, for weights that were carried here."""
    save_file({"x": torch.zeros(1)}, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {"quick_gelu": true}}')
    with pytest.raises(WeightsError, match="QuickGELU"):
        image_fingerprint(ImageEncoderRecipe(model="ViT-B-32", weights=str(tmp_path)))


def folder_of(tmp_path, config):
    """Return a folder of weights that says this of itself; its tensors are no model's."""
    save_file({"x": torch.zeros(1)}, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    return str(tmp_path)


@pytest.mark.parametrize(
    ("tower", "change", "told"),
    [
        ("vision_cfg", {"image_size": 288}, "vision_cfg.image_size is 288, and not 224"),
        ("vision_cfg", {"head_width": 32}, "vision_cfg.head_width is 32, and not 64"),
        ("vision_cfg", {"of another version": "x"}, "vision_cfg.of another version is x, and not None"),
        ("text_cfg", {"context_length": 32}, "text_cfg.context_length is 32, and not 77"),
        ("text_cfg", {"heads": 8, "act_kwargs": {"approximate": "tanh"}}, "text_cfg.heads is 8, and not 4"),
        (None, {"embed_dim": 512}, "embed_dim is 512, and not 256"),
    ],
)
def test_a_folder_of_another_architecture_is_refused(tmp_path, tower, change, told):
    """open_clip resizes what it can, and of a head's width no tensor tells."""
    config = open_clip.get_model_config("ViT-S-32-alt")
    (config if tower is None else config[tower]).update(change)
    recipe = ImageEncoderRecipe(model="ViT-S-32-alt", weights=folder_of(tmp_path, {"model_cfg": config}))
    with pytest.raises(WeightsError, match="does not fit ViT-S-32-alt: ") as error:
        image_fingerprint(recipe)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"model_cfg": None}, "model_cfg"),
        ({"model_cfg": {"vision_cfg": []}}, "model_cfg.vision_cfg"),
        ({"preprocess_cfg": [1]}, "preprocess_cfg"),
        ({"preprocess_cfg": {"mean": 0.5, "std": 0.5}}, "preprocess_cfg.mean"),
        ({"preprocess_cfg": {"mean": None}}, "preprocess_cfg.mean"),
        ({"preprocess_cfg": {"mean": [0.5, 0.5]}}, "preprocess_cfg.mean"),
        ({"preprocess_cfg": {"mean": ["0.5", "b", "c"]}}, "preprocess_cfg.mean.0"),
        ({"preprocess_cfg": {"mean": [float("nan"), 0, 0]}}, "preprocess_cfg.mean.0"),
        ({"preprocess_cfg": {"std": [1, 0, 1]}}, "preprocess_cfg.std.1"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused_by_the_field(tmp_path, config, field):
    with pytest.raises(WeightsError, match=rf"open_clip_config\.json: makes no sense \({field}: "):
        image_encoder(ImageEncoderRecipe(model="ViT-B-32", weights=folder_of(tmp_path, config)))


@pytest.mark.parametrize("model", ["ViT-B-32", "RN50", "ViT-B-16-SigLIP", "roberta-ViT-B-32", "coca_ViT-B-32"])
def test_an_architecture_may_be_written_with_more_or_fewer_defaults(tmp_path, model):
    config = open_clip.get_model_config(model)
    whole = config | {
        "vision_cfg": asdict(open_clip.CLIPVisionCfg(**config["vision_cfg"])) | {"patch_dropout": 0.5},
        "text_cfg": asdict(open_clip.CLIPTextCfg(**config["text_cfg"])) | {"hf_tokenizer_name": "someone/model"},
        "custom_text": True,
        "init_logit_bias": -10,
    }
    whole["vision_cfg"]["image_size"] = [config["vision_cfg"]["image_size"]] * 2
    for written in (config, whole, {key: config[key] for key in ("embed_dim", "quick_gelu") if key in config}):
        recipe = ImageEncoderRecipe(model=model, weights=folder_of(tmp_path, {"model_cfg": written}))
        assert image_fingerprint(recipe)["model"] == model


@pytest.mark.parametrize(
    ("model", "name", "shape"),
    [
        ("embedded", "positional_embedding", (32, 96)),
        ("ViT-S-32-alt", "visual.positional_embedding", (82, 384)),
        ("ViT-S-32-alt", "module.positional_embedding", (32, 256)),
        ("ViT-B-16-SigLIP", "text.positional_embedding", (32, 768)),
    ],
)
def test_positions_of_another_size_are_not_resized(tmp_path, monkeypatch, model, name, shape):
    monkeypatch.setattr(open_clip, "load_checkpoint", None)
    save_file({name: torch.zeros(shape)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=rf"does not fit {model}: {name} is of \[{shape[0]}, {shape[1]}\], and not"):
        image_encoder(ImageEncoderRecipe(model=model, weights=str(tmp_path / "w.safetensors")))


def test_a_models_name_that_is_unknown_comes_with_the_nearest():
    with pytest.raises(RecipeError, match="ViT-B-16-quickgelu"):
        image_encoder(ImageEncoderRecipe(model="ViT-B-16-quikgelu", weights="random:0"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"visual.conv1.weight": None}, "it lacks visual.conv1.weight;"),
        ({"logit_scale": None, "more": torch.zeros(2)}, "it lacks logit_scale, and it has besides more;"),
        ({name: torch.zeros(2) for name in "abcde"}, "it has besides a, b, c and 2 more;"),
        ({"ln_final.bias": torch.zeros(2)}, "size mismatch for ln_final.bias: "),
        (None, "it holds no tensors;"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, change, told):
    tensors = {} if change is None else {**own_network(0).state_dict(), **change}
    file = tmp_path / "w.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}, file)
    with pytest.raises(WeightsError) as error:
        image_encoder(TINY.model_copy(update={"weights": str(file)}))
    assert f"does not fit embedded: {told}" in str(error.value)


def test_weights_of_another_network_are_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="does not fit embedded") as error:
        image_encoder(TINY.model_copy(update={"weights": str(tmp_path / "w.safetensors")}))
    assert "\n" not in str(error.value)
