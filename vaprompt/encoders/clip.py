"""CLIP through open_clip: pictures and prompts into one joint space.

Axes: B pictures, H rows, W columns, P prompts, D channels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import open_clip
import torch
from jaxtyping import Float32, Int64, UInt8
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor
from torch.nn import functional as F

from vaprompt.encoders.recipes import EMBEDDED, ImageEncoderRecipe
from vaprompt.encoders.weights import Weights, image_weights, offline, open_clip_config
from vaprompt.errors import RecipeError, WeightsError
from vaprompt.media.resize import preprocess

SCHEMA = 1
"""Raised whenever this module changes what an embedding is."""

Colour = tuple[float, float, float]


def image_fingerprint(recipe: ImageEncoderRecipe, weights: Weights | None = None) -> dict[str, Any]:
    """Return everything that determines an image embedding, without loading the network.

    Raises:
        WeightsError: the weights are not at hand, or do not belong to the model.
        RecipeError: there is no such model, or it wants its pictures prepared in a way that is not known here.
    """
    weights = weights or image_weights(recipe)
    config, preparation = _config(recipe), dict(weights.preprocessor or {})
    if recipe.model == EMBEDDED:
        preparation = dict(config.get("preprocess_cfg", {}))
    resize, interpolation = preparation.get("resize_mode", "shortest"), preparation.get("interpolation", "bicubic")
    size = config["model_cfg"]["vision_cfg"].get("image_size", 224)
    if (
        resize not in ("shortest", "squash")
        or interpolation not in ("bicubic", "bilinear")
        or not isinstance(size, int)
    ):
        raise RecipeError(
            f"image.model = {recipe.model}",
            fault=f"wants pictures of size {size}, resized by '{resize}' and '{interpolation}'",
            remedy="choose a model with square pictures, 'shortest' or 'squash', 'bicubic' or 'bilinear'",
        )
    return {
        "schema": SCHEMA,
        "kind": recipe.kind,
        "model": recipe.model,
        "weights": weights.digest,
        "output": "image embedding after the projection, not normalised",
        "precision": recipe.precision,
        "size": size,
        "resize": resize,
        "interpolation": f"{interpolation}, antialiased",
        "mean": list(preparation.get("mean", OPENAI_DATASET_MEAN)),
        "std": list(preparation.get("std", OPENAI_DATASET_STD)),
    }


class OpenClipEncoder:
    """A frozen CLIP; see `ImageEncoder` for the meaning of its members."""

    def __init__(self, recipe: ImageEncoderRecipe, device: str = "cpu") -> None:
        """Load the network that the recipe names onto a device.

        Raises:
            WeightsError: the weights are not at hand, or do not belong to the model.
            RecipeError: there is no such model.
        """
        weights = image_weights(recipe)
        self.fingerprint = image_fingerprint(recipe, weights)
        self._device = torch.device(device)
        self._size, self._mean, self._std = (self.fingerprint[key] for key in ("size", "mean", "std"))
        self._network = _load(recipe, weights, self._device).eval().requires_grad_(False)
        self._tokenize = _tokenizer(recipe)
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.precision]
        self.dim = int(_config(recipe)["model_cfg"]["embed_dim"])

    @torch.no_grad()
    def encode(self, image_BHWC: UInt8[np.ndarray, "B H W 3"]) -> Float32[Tensor, "B D"]:
        """Return the embeddings of RGB pictures of one size, after the projection and not normalised, on the CPU."""
        fitted_BHWC = self._fitted(torch.from_numpy(image_BHWC).to(self._device))
        input_BCSS = preprocess(fitted_BHWC, size=self._size, mean=tuple(self._mean), std=tuple(self._std))
        embedding_BD: Tensor = self._network.encode_image(input_BCSS.to(self._dtype))
        return embedding_BD.float().cpu()

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Float32[Tensor, "P D"]:
        """Return the embeddings of prompts in the pictures' space, not normalised, on the CPU."""
        embedding_PD: Tensor = self._network.encode_text(self._tokenize(list(texts)).to(self._device))
        return embedding_PD.float().cpu()

    def _fitted(self, image_BHWC: UInt8[Tensor, "B H W 3"]) -> UInt8[Tensor, "B h w 3"]:
        """Resize for the models whose pictures `preprocess` cannot prepare alone; it then finds nothing to resize."""
        height, width = image_BHWC.shape[1:3]
        squash, mode = self.fingerprint["resize"] == "squash", self.fingerprint["interpolation"].split(",")[0]
        if mode == "bicubic" and (not squash or height == width):
            return image_BHWC
        shortest = min(height, width)
        target = (self._size, self._size)
        if not squash:
            target = (self._size * height // shortest, self._size * width // shortest)
        resized_BCHW = F.interpolate(image_BHWC.permute(0, 3, 1, 2).float(), target, mode=mode, antialias=True)
        return resized_BCHW.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _config(recipe: ImageEncoderRecipe) -> dict[str, Any]:
    """Return `model_cfg` and, for the miniature, `preprocess_cfg`, as open_clip's config files have them."""
    if recipe.model == EMBEDDED:
        from vaprompt.encoders import embedded

        return dict(embedded.clip_config())
    return {"model_cfg": open_clip_config(recipe.model)}


def _tokenizer(recipe: ImageEncoderRecipe) -> Callable[[list[str]], Int64[Tensor, "P L"]]:
    if recipe.model == EMBEDDED:
        from vaprompt.encoders import embedded

        return embedded.tokenize
    with offline():
        try:
            return cast("Callable[[list[str]], Tensor]", open_clip.get_tokenizer(recipe.model))
        except OSError as error:
            raise _part_missing(recipe, "tokenizer", error) from None


def _load(recipe: ImageEncoderRecipe, weights: Weights, device: torch.device) -> Any:
    """Build the network and fill it; random weights are drawn on the CPU, so that a seed means the same anywhere."""
    pretrained = str(weights.file) if weights.file else None
    with torch.random.fork_rng(devices=[]), offline(), _without_logging():
        torch.manual_seed(weights.seed or 0)
        try:
            if recipe.model == EMBEDDED:
                return _miniature(_config(recipe)["model_cfg"], pretrained, recipe.precision, device)
            return open_clip.create_model(
                recipe.model, pretrained, precision=recipe.precision, device=device, pretrained_text=False
            )
        except RuntimeError as error:
            raise WeightsError(
                weights.file,
                fault=f"does not fit {recipe.model} ({str(error).splitlines()[0]})",
                remedy="set image.model to what the weights were made for",
            ) from None
        except OSError as error:
            raise _part_missing(recipe, "text tower's configuration", error) from None


def _miniature(config: Mapping[str, Any], file: str | None, precision: str, device: torch.device) -> Any:
    dtype = open_clip.get_cast_dtype(precision)
    network = open_clip.CLIP(**config, cast_dtype=dtype).to(device)
    if dtype is not None:
        open_clip.convert_weights_to_lp(network, dtype=dtype)
    if file is not None:
        open_clip.load_checkpoint(network, file)
    return network


def _part_missing(recipe: ImageEncoderRecipe, part: str, error: OSError) -> WeightsError:
    return WeightsError(
        f"image.model = {recipe.model}",
        fault=f"its {part} is not in this machine's cache ({str(error).splitlines()[0]})",
        remedy="load the model once with open_clip on a machine with a network and bring its cache, or choose another",
    )


@contextmanager
def _without_logging() -> Iterator[None]:
    """Silence open_clip's remarks on the root logger, such as that random weights are random: we asked for them."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
