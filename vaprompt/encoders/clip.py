"""CLIP through open_clip: pictures and prompts into one joint space.

Axes: B pictures, H rows, W columns, P prompts, D channels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import open_clip
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from open_clip.transformer import VisionTransformer
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from vaprompt.encoders.clip_form import clip_config, image_fingerprint
from vaprompt.encoders.pieces import InPieces, piece_size
from vaprompt.encoders.processor import in_tiles
from vaprompt.encoders.recipes import EMBEDDED, ImageEncoderRecipe
from vaprompt.encoders.tower import DTYPES, Linear, Norm, Tower, clip_parts
from vaprompt.encoders.weights import Weights, image_weights, offline
from vaprompt.errors import WeightsError
from vaprompt.media.resize import fitted, preprocess

PIECE = 8
"""Pictures that a processor's core encodes at once with networks other than plain vision transformers. A plain one is
as fast one by one in fp32, and in bf16 on vector units."""
IN_TILES = 2
"""The same for plain ones in bf16 on matrix units: weights are fetched half as often, and what lies between two
products still fits a core's own cache. Of one Xeon's two cores, in turns, the median over 40 rounds: 30.3 pictures a
second one by one, 32.8 in twos, 33.0 in threes, 31.2 in fours."""
POSITIONS = ("visual.positional_embedding", "positional_embedding")
"""The tables that open_clip resizes to fit a network; the second one is the text's."""
MOST_LISTED = 3
"""Tensors that a message names."""


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
        network = load_network(recipe, weights, self._device).eval().requires_grad_(False)
        self._tokenize = tokenizer(recipe)
        self._dtype = DTYPES[recipe.precision]
        self.dim = int(clip_config(recipe)["model_cfg"]["embed_dim"])
        sight = _Sight.of(network.visual, self._dtype)
        # The weights are in the tower now; the text tower stays.
        if sight is not None:
            network.visual = torch.nn.Identity()
        self._plain = sight is not None
        self._network, self._see = network, sight or network.encode_image
        if recipe.compile and self._device.type != "cpu":
            self._see = torch.compile(self._see, dynamic=False)
        self._run = InPieces(self._from_bytes, self._device, piece=self._piece(), compiled=recipe.compiled_for)

    def encode(self, image_BHWC: UInt8[np.ndarray, "B H W 3"]) -> Float32[Tensor, "B D"]:
        """Return the embeddings of RGB pictures of one size, not normalised, on the network's device."""
        return self._run(torch.from_numpy(image_BHWC))

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Float32[Tensor, "P D"]:
        """Return the embeddings of prompts in the pictures' space, not normalised, on the CPU."""
        embedding_PD: Tensor = self._network.encode_text(self._tokenize(list(texts)).to(self._device))
        return embedding_PD.float().cpu()

    def _from_bytes(self, image_BHWC: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B D"]:
        size, mean, std = (self.fingerprint[key] for key in ("size", "mean", "std"))
        square_BSSC = self._fitted(image_BHWC)
        input_BCSS = preprocess(square_BSSC, size=size, mean=tuple(mean), std=tuple(std))
        embedding_BD: Tensor = self._see(input_BCSS.to(self._dtype))
        return embedding_BD

    def _fitted(self, image_BHWC: UInt8[Tensor, "B H W 3"]) -> UInt8[Tensor, "B S S 3"]:
        size, resize, interpolation = (self.fingerprint[key] for key in ("size", "resize", "interpolation"))
        return fitted(image_BHWC, size=size, resize=resize, interpolation=interpolation)

    def _piece(self) -> int:
        """Return how many pictures go through the network at once on the processor."""
        most = (IN_TILES if in_tiles(self._dtype, self._device) else 1) if self._plain else PIECE
        if self._device.type != "cpu" or most == 1:
            return 1
        size = self.fingerprint["size"]
        probe_BHWC = torch.randint(
            0, 256, (most, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )
        return piece_size(self._from_bytes, probe_BHWC)


@dataclass(frozen=True)
class _Sight:
    """open_clip's plain vision transformer, arranged for speed: patches by one product, then the tower."""

    patch: Linear
    side: int
    first_D: Tensor
    """The class token with its position."""
    position_PD: Tensor
    before: Norm | None
    tower: Tower
    after: Norm
    projection_DE: Tensor

    @classmethod
    def of(cls, visual: Any, dtype: torch.dtype) -> _Sight | None:
        """Return the network, or None where it is of another kind."""
        if type(visual) is not VisionTransformer or visual.attn_pool is not None or visual.pool_type != "tok":
            return None
        parts = [clip_parts(block) for block in visual.transformer.resblocks]
        plain = [part for part in parts if part is not None]
        side, across = visual.patch_size
        if len(plain) < len(parts) or side != across or visual.proj is None:
            return None
        position_TD = visual.positional_embedding.detach().to(dtype)
        before = visual.ln_pre
        return cls(
            patch=Linear(visual.conv1.weight.flatten(1).to(dtype), None),
            side=side,
            first_D=visual.class_embedding.detach().to(dtype) + position_TD[0],
            position_PD=position_TD[1:],
            before=Norm.of(before, dtype) if isinstance(before, torch.nn.LayerNorm) else None,
            tower=Tower(plain, visual.transformer.resblocks[0].attn.num_heads, dtype, first_only=True),
            after=Norm.of(visual.ln_post, dtype),
            projection_DE=visual.proj.detach().t().contiguous().to(dtype),
        )

    def __call__(self, image_BCSS: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B E"]:
        """Return the embeddings of normalised pictures."""
        side = self.side
        # (B, C, rows, side, columns, side) -> (B, rows, columns, C, side, side): a patch is then one row.
        items, colours, size, _ = image_BCSS.shape
        square_BCRsKs = image_BCSS.reshape(items, colours, size // side, side, size // side, side)
        patch_BRKCss = square_BCRsKs.permute(0, 2, 4, 1, 3, 5)
        patch_BPI = patch_BRKCss.flatten(3).flatten(1, 2)
        token_BPD = self.patch(patch_BPI).add_(self.position_PD)
        token_BTD = torch.cat((self.first_D.expand(len(token_BPD), 1, -1), token_BPD), dim=1)
        if self.before is not None:
            token_BTD = self.before(token_BTD)
        first_BD = self.after(self.tower(token_BTD)[:, 0])
        # Written as a sum over channels for each picture alone; see Layer.
        if first_BD.device.type == "cpu":
            return torch.stack([torch.mv(self.projection_DE, first_D) for first_D in first_BD])
        return F.linear(first_BD, self.projection_DE)


def tokenizer(recipe: ImageEncoderRecipe) -> Callable[[list[str]], Int64[Tensor, "P L"]]:
    """Return what turns texts into the tokens that the recipe's network reads."""
    if recipe.model == EMBEDDED:
        from vaprompt.encoders import embedded

        return embedded.tokenize
    with offline():
        try:
            return cast("Callable[[list[str]], Tensor]", open_clip.get_tokenizer(recipe.model))
        except OSError as error:
            raise _part_missing(recipe, "tokenizer", error) from None


def load_network(recipe: ImageEncoderRecipe, weights: Weights, device: torch.device) -> Any:
    """Build the network and fill it; random weights are drawn on the CPU, so that a seed means the same anywhere.

    Raises:
        WeightsError: the weights do not fit, or a part of the model is not at hand.
    """
    with torch.random.fork_rng(devices=[]), offline(), _without_logging():
        torch.manual_seed(weights.seed or 0)
        try:
            if recipe.model == EMBEDDED:
                network = _miniature(clip_config(recipe)["model_cfg"], recipe.precision, device)
            else:
                network = open_clip.create_model(
                    recipe.model, precision=recipe.precision, device=device, pretrained_text=False
                )
            if weights.file is not None:
                _fill(network, weights.file, recipe.model)
            return network
        except RuntimeError as error:
            raise _unfit(weights.file, recipe.model, str(error).splitlines()[0]) from None
        except OSError as error:
            raise _part_missing(recipe, "text tower's configuration", error) from None


def _fill(network: Any, file: Path, model: str) -> None:
    """Load a file into a network, or name the tensors that do not fit."""
    _require_same_positions(network, file, model)
    try:
        report = open_clip.load_checkpoint(network, str(file), strict=False)
    except KeyError as error:
        raise _unfit(file, model, f"it lacks {error.args[0]}") from None
    except (RuntimeError, AttributeError, AssertionError, StopIteration) as error:
        # torch's own message has a heading, then a line for each tensor of another size.
        raise _unfit(file, model, (str(error).splitlines() or ["it holds no tensors"])[:2][-1]) from None
    found = (("it lacks", report.missing_keys), ("it has besides", report.unexpected_keys))
    faults = [f"{what} {_listed(names)}" for what, names in found if names]
    if faults:
        raise _unfit(file, model, ", and ".join(faults))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _unfit(file: Path | None, model: str, why: str) -> WeightsError:
    remedy = "give weights in open_clip's own form, and set image.model to what they were made for"
    return WeightsError(file, fault=f"does not fit {model}: {why}", remedy=remedy)


def _require_same_positions(network: Any, file: Path, model: str) -> None:
    """Refuse tables of positions of another size: open_clip would resize them without a word."""
    built = {name.removeprefix("text."): list(tensor.shape) for name, tensor in network.state_dict().items()}
    with safe_open(file, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - it is no mapping
            short = name.removeprefix("module.").removeprefix("text.")
            if short not in POSITIONS or short not in built:
                continue
            shape = tensors.get_slice(name).get_shape()
            if shape != built[short]:
                raise _unfit(file, model, f"{name} is of {shape}, and not of {built[short]}")


def _miniature(config: Mapping[str, Any], precision: str, device: torch.device) -> Any:
    dtype = open_clip.get_cast_dtype(precision)
    network = open_clip.CLIP(**config, cast_dtype=dtype).to(device)
    if dtype is not None:
        open_clip.convert_weights_to_lp(network, dtype=dtype)
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
