"""What of an encoder learns is what the recipe names, and everything else keeps its bytes."""

import pytest
import torch
from open_clip.transformer import PatchDropout

from tests.finetuning.networks import encoders, heads, losses, windows
from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.encoders.trainable import TrainableAudio, TrainableImage
from vaprompt.errors import RecipeError
from vaprompt.finetuning.recipe import TuningRecipe
from vaprompt.finetuning.step import backward
from vaprompt.finetuning.tuning import choose, set_learning


def image(model: str = "ViT-S-32-alt") -> TrainableImage:
    return TrainableImage(ImageEncoderRecipe(model=model, weights="random:0"))


def audio() -> TrainableAudio:
    return TrainableAudio(AudioEncoderRecipe(model="embedded", weights="embedded"))


def test_all_is_the_image_tower_and_never_the_text_tower():
    seeing = image()
    learning = choose(seeing, TuningRecipe(tune="all"), "image")
    assert set(learning) == {name for name, _ in seeing.network.named_parameters() if name.startswith("visual.")}
    assert not any(value.requires_grad for name, value in seeing.network.named_parameters() if name not in learning)


def test_the_last_blocks_come_with_what_stands_behind_them():
    seeing, hearing = image(), audio()
    last = TuningRecipe(tune="last", blocks=2)
    blocks = len(seeing.anatomy.blocks)
    assert {name.split(".")[3] for name in choose(seeing, last, "image") if "resblocks" in name} == {
        str(blocks - 2),
        str(blocks - 1),
    }
    others = {name for name in choose(seeing, last, "image") if "resblocks" not in name}
    assert others == {"visual.ln_post.weight", "visual.ln_post.bias", "visual.proj"}
    heard = choose(hearing, last, "audio")
    assert {name.split(".")[1] for name in heard if name.startswith("layers.")} == {"1", "2"}
    assert "layernorm.weight" in heard
    assert not any(name.startswith("embeddings.") for name in heard)


def test_norms_are_norms_alone():
    for encoder, least in ((image(), 4), (image("embedded"), 4), (audio(), 6)):
        learning = choose(encoder, TuningRecipe(tune="norms"), "x")
        modules = dict(encoder.network.named_modules())
        kinds = {type(modules[name.rpartition(".")[0]]).__name__ for name in learning}
        assert kinds <= {"LayerNorm", "BatchNorm2d"}
        assert len(learning) >= 2 * least


def test_none_is_nothing():
    hearing = audio()
    assert choose(hearing, TuningRecipe(tune="none"), "audio") == {}
    assert not any(parameter.requires_grad for parameter in hearing.parameters())


def test_what_a_network_does_not_have_is_refused():
    with pytest.raises(RecipeError, match=r"image\.blocks = 99: the network has 12 blocks"):
        choose(image(), TuningRecipe(tune="last", blocks=99), "image")
    logmel = TrainableAudio(AudioEncoderRecipe(kind="logmel"))
    assert choose(logmel, TuningRecipe(tune="none"), "audio") == {}
    with pytest.raises(RecipeError, match=r"audio\.tune = all: .*set audio\.tune = none"):
        choose(logmel, TuningRecipe(), "audio")
    odd = image()
    object.__setattr__(odd.anatomy, "blocks", ())
    with pytest.raises(RecipeError, match="blocks are not known here"):
        choose(odd, TuningRecipe(tune="last"), "image")


def test_only_what_drops_is_told_that_it_learns():
    seeing = image("embedded")
    seeing.network.visual.drop = PatchDropout(0.5)
    set_learning(seeing, True)
    assert {type(module).__name__ for module in seeing.modules() if module.training} == {"PatchDropout"}
    set_learning(seeing, False)
    assert not any(module.training for module in seeing.modules())


def test_a_step_leaves_what_is_frozen_to_the_last_bit():
    raw, tuned = encoders(TuningRecipe(tune="last", blocks=1), TuningRecipe(tune="norms"))
    before = {name: tensor.clone() for name, tensor in raw.state_dict().items()}
    estimator = heads(raw.image.dim, 96)
    optimizer = torch.optim.AdamW([*tuned.values(), *estimator.parameters()], lr=1e-3)
    backward(raw, estimator, windows(), losses(), at_once=2, seed=0)
    optimizer.step()
    changed = {name for name, tensor in raw.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name.replace(".", ".network.", 1) for name in tuned}, "statistics of BatchNorm included"
