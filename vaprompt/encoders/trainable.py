"""The encoders as plain modules whose weights can learn: the frozen ones' networks, from the same loaders.

They compute what `OpenClipEncoder` and `AstEncoder` do, which rearrange the weights for speed, but for rounding. Tuned
weights are saved as folders that the same loaders read.

Axes: B items in the batch, S side of a picture, then time steps of sound, F columns of the sound's picture, M mel bins,
D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float32, UInt8
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from vaprompt.encoders import clip, spectrogram
from vaprompt.encoders.ast_form import (
    ARCHITECTURE,
    MODEL_TYPE,
    ast_form,
    audio_fingerprint,
    log_mel_recipe,
    sound_picture,
)
from vaprompt.encoders.clip_form import clip_config, image_fingerprint
from vaprompt.encoders.pooling import pooled
from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.encoders.weights import (
    AST_CONFIG,
    AST_FILE,
    AST_PREPROCESSOR,
    CLIP_CONFIG,
    CLIP_FILE,
    audio_weights,
    image_weights,
)
from vaprompt.files import published, write_json
from vaprompt.media.recipes import DecibelRecipe, LogMelRecipe
from vaprompt.media.resize import preprocess
from vaprompt.tensors import write_tensors


@dataclass(frozen=True)
class Anatomy:
    """A network's parts, front to back, by what the names of their parameters begin with."""

    tower: str
    """All that can be trained; "" is all of it."""
    blocks: tuple[str, ...]
    """One after the other; empty where they are not known."""
    behind: tuple[str, ...]
    """What stands behind the last block."""


class TrainableImage(nn.Module):
    """CLIP's image tower."""

    def __init__(self, recipe: ImageEncoderRecipe) -> None:
        """Load the network that the recipe names, in single precision, on the processor.

        Raises:
            WeightsError: the weights are not at hand, or do not belong to the model.
            RecipeError: there is no such model.
        """
        super().__init__()
        weights = image_weights(recipe)
        self.recipe, self.fingerprint = recipe, image_fingerprint(recipe, weights)
        self._preparation = dict(weights.preprocessor or {})
        plain = recipe.model_copy(update={"precision": "fp32"})
        self.network: Any = clip.load_network(plain, weights, torch.device("cpu"))
        self.dim = int(clip_config(recipe)["model_cfg"]["embed_dim"])
        self.anatomy = _clip_anatomy(self.network.visual)

    def forward(self, square_BSSC: UInt8[Tensor, "B S S 3"]) -> Float[Tensor, "B D"]:
        """Return the embeddings of pictures of the encoder's size, after the projection and not normalised."""
        size, mean, std = (self.fingerprint[key] for key in ("size", "mean", "std"))
        embedding_BD: Tensor = self.network.visual(preprocess(square_BSSC, size=size, mean=tuple(mean), std=tuple(std)))
        return embedding_BD

    def save(self, folder: Path) -> None:
        """Write the weights, text tower included, and their configuration into a folder that a recipe can name.

        Raises:
            TargetError: it cannot be written.
        """
        _save(self.network, folder / CLIP_FILE)
        interpolation = self.fingerprint["interpolation"].split(",")[0]
        said = {"interpolation": interpolation, "resize_mode": self.fingerprint["resize"], **self._preparation}
        keys = ("mean", "std", "interpolation", "resize_mode")
        content = {
            "model_cfg": clip_config(self.recipe)["model_cfg"],
            "preprocess_cfg": {key: said[key] for key in keys if key in said},
        }
        write_json(folder / CLIP_CONFIG, content)


class TrainableAudio(nn.Module):
    """AST on the sound's picture, or that picture itself, which nothing can be trained of."""

    def __init__(self, recipe: AudioEncoderRecipe) -> None:
        """Load the network that the recipe names, in single precision, on the processor.

        Raises:
            WeightsError: the weights are not at hand, or do not belong to an AST.
            RecipeError: more steps are asked for than it has.
        """
        super().__init__()
        self.recipe, self.fingerprint = recipe, audio_fingerprint(recipe)
        self.network: Any = None
        self.mel: LogMelRecipe | DecibelRecipe
        self.anatomy = Anatomy("", (), ())
        if recipe.kind == "ast":
            weights = audio_weights(recipe)
            config = spectrogram.ast_config(recipe, weights)
            self._heard, self.mel = log_mel_recipe(recipe, weights), sound_picture(recipe, weights)
            self._config, self._bands = config, ast_form(recipe, weights).grid()[0]
            self.network = spectrogram.load_network(weights, config, recipe.model)
            layers = tuple(f"layers.{index}." for index in range(config.num_hidden_layers))
            self.anatomy = Anatomy("", layers, ("layernorm.",))
        else:
            self.mel = LogMelRecipe()

    def forward(self, mel_BFM: Float32[Tensor, "B F M"]) -> Float[Tensor, "B S D"]:
        """Return the embeddings of sounds, from their pictures, as sequences over time."""
        if self.network is None:
            return pooled(mel_BFM, self.recipe.steps)
        return spectrogram.over_time(self.network(mel_BFM).last_hidden_state, self.recipe, self._bands)

    def save(self, folder: Path) -> None:
        """Write the weights and their configuration into a folder that a recipe can name.

        Raises:
            TargetError: it cannot be written.
        """
        _save(self.network, folder / AST_FILE)
        known = {key: getattr(self._config, key) for key in ARCHITECTURE}
        write_json(folder / AST_CONFIG, {"model_type": MODEL_TYPE, **known})
        # What the weights once heard, whatever picture the recipe gives them.
        sound = {"sampling_rate": self._heard.rate, "mean": self._heard.mean, "std": self._heard.std}
        write_json(folder / AST_PREPROCESSOR, sound)


TrainableEncoder = TrainableImage | TrainableAudio


def _clip_anatomy(visual: nn.Module) -> Anatomy:
    if isinstance(visual, VisionTransformer):
        blocks = [f"visual.transformer.resblocks.{index}." for index in range(len(visual.transformer.resblocks))]
        return Anatomy("visual.", tuple(blocks), ("visual.ln_post.", "visual.attn_pool.", "visual.proj"))
    if isinstance(visual, ModifiedResNet):
        return Anatomy("visual.", tuple(f"visual.layer{number}." for number in (1, 2, 3, 4)), ("visual.attnpool.",))
    return Anatomy("visual.", (), ())


def _save(network: nn.Module, target: Path) -> None:
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    with published(target) as aside:
        write_tensors(aside, tensors)
