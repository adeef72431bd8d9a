"""Encoders of sound: the audio spectrogram transformer (AST), and the log-Mel picture itself.

Axes: B windows, L samples, F frames of 10 ms, M mel bins, T tokens, S time steps, D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from jaxtyping import Float, Float32
from safetensors.torch import load_file
from torch import Tensor
from transformers import ASTConfig, ASTModel
from transformers.activations import ACT2FN
from transformers.utils import logging as transformers_logging

from vaprompt.encoders.ast_form import architecture, ast_form, audio_fingerprint, refused, sound_picture
from vaprompt.encoders.pieces import InPieces
from vaprompt.encoders.pooling import patches_over_time, pooled
from vaprompt.encoders.recipes import AudioEncoderRecipe
from vaprompt.encoders.tower import DTYPES, Linear, Norm, Tower, ast_parts
from vaprompt.encoders.weights import AST_PREFIX, Weights, audio_weights, offline
from vaprompt.errors import WeightsError
from vaprompt.media.logmel import log_mel
from vaprompt.media.recipes import LogMelRecipe
from vaprompt.media.spectrogram import drawn

SPECIAL_TOKENS = 2
"""CLS and distillation token, in front of the patches."""


class AstEncoder:
    """A frozen AST, its patches pooled over frequency; see `AudioEncoder` for the meaning of its members."""

    def __init__(self, recipe: AudioEncoderRecipe, device: str = "cpu") -> None:
        """Load the network that the recipe names onto a device.

        Raises:
            WeightsError: the weights are not at hand, or do not belong to an AST.
            RecipeError: more steps are asked for than the network has.
        """
        weights = audio_weights(recipe)
        self.fingerprint = audio_fingerprint(recipe, weights)
        config, self._picture = ast_config(recipe, weights), sound_picture(recipe, weights)
        self._bands = ast_form(recipe, weights).grid()[0]
        self.steps, self.dim, self.rate = self.fingerprint["steps"], int(config.hidden_size), self._picture.rate
        self._recipe, self._device = recipe, torch.device(device)
        dtype = DTYPES[recipe.precision]
        network = load_network(weights, config, recipe.model).eval().requires_grad_(False).to(device=self._device)
        self._hear: Callable[[Tensor], Tensor]
        if config.hidden_act == "gelu":
            self._hear = _Hearing.of(network, dtype)
        else:
            plain = network.to(dtype)
            self._hear = lambda mel_BFM: plain(mel_BFM.to(dtype)).last_hidden_state
        if recipe.compile and self._device.type != "cpu":
            self._hear = torch.compile(self._hear, dynamic=False)
        self._run = InPieces(self._from_wave, self._device, piece=1, compiled=recipe.compiled_for)

    def encode(self, wave_BL: Float32[Tensor, "B L"]) -> Float32[Tensor, "B S D"]:
        """Return the embeddings of mono sounds in [-1, 1], as sequences over time, on the network's device."""
        return self._run(wave_BL)

    def _from_wave(self, wave_BL: Float32[Tensor, "B L"]) -> Float32[Tensor, "B S D"]:
        token_BTD = self._hear(drawn(wave_BL, self._picture))
        return over_time(token_BTD, self._recipe, self._bands)


@dataclass(frozen=True)
class _Hearing:
    """transformers' AST, arranged for speed: patches by one product, then the tower."""

    patch: Linear
    side: tuple[int, int]
    stride: tuple[int, int]
    first_2D: Tensor
    """CLS and distillation token with their positions."""
    position_PD: Tensor
    tower: Tower
    after: Norm

    @classmethod
    def of(cls, network: Any, dtype: torch.dtype) -> _Hearing:
        """Return the network in a number format of its own."""
        embeddings, config = network.embeddings, network.config
        convolution = embeddings.patch_embeddings.projection
        position_TD = embeddings.position_embeddings.detach()[0].to(dtype)
        special_2D = torch.cat((embeddings.cls_token, embeddings.distillation_token), dim=1).detach()[0].to(dtype)
        return cls(
            patch=Linear(convolution.weight.flatten(1).to(dtype), convolution.bias.to(dtype)),
            side=convolution.kernel_size,
            stride=convolution.stride,
            first_2D=special_2D + position_TD[:SPECIAL_TOKENS],
            position_PD=position_TD[SPECIAL_TOKENS:],
            tower=Tower([ast_parts(layer) for layer in network.layers], config.num_attention_heads, dtype),
            after=Norm.of(network.layernorm, dtype),
        )

    def __call__(self, mel_BFM: Float32[Tensor, "B F M"]) -> Float[Tensor, "B T D"]:
        """Return the last layer's tokens, patches frequency-major behind the special ones."""
        (high, wide), (down, right) = self.side, self.stride
        patch_BRKss = mel_BFM.transpose(1, 2).unfold(1, high, down).unfold(2, wide, right)
        patch_BPI = patch_BRKss.flatten(3).flatten(1, 2)
        token_BPD = self.patch(patch_BPI.to(self.first_2D.dtype)).add_(self.position_PD)
        token_BTD = torch.cat((self.first_2D.expand(len(token_BPD), -1, -1), token_BPD), dim=1)
        return self.after(self.tower(token_BTD))


class LogMelPicture:
    """The log-Mel picture itself, averaged over time; a CNN over it is trained with the heads (Table 1's baseline)."""

    def __init__(self, recipe: AudioEncoderRecipe, device: str = "cpu") -> None:
        """Prepare the filter bank on a device.

        Raises:
            RecipeError: more steps are asked for than the picture has frames.
        """
        self._log_mel = LogMelRecipe()
        self.fingerprint = audio_fingerprint(recipe)
        self.steps, self.dim, self.rate = recipe.steps or self._log_mel.frames, self._log_mel.bins, self._log_mel.rate
        self._run = InPieces(self._from_wave, torch.device(device), piece=1)

    def encode(self, wave_BL: Float32[Tensor, "B L"]) -> Float32[Tensor, "B S D"]:
        """Return the log-Mel pictures of mono sounds in [-1, 1], as sequences over time, on the network's device."""
        return self._run(wave_BL)

    def _from_wave(self, wave_BL: Float32[Tensor, "B L"]) -> Float32[Tensor, "B S D"]:
        return pooled(log_mel(wave_BL, self._log_mel), self.steps)


def over_time(token_BTD: Float[Tensor, "B T D"], recipe: AudioEncoderRecipe, bands: int) -> Float32[Tensor, "B S D"]:
    """Return the last layer's tokens of sounds as sequences over time, as the recipe wants them.

    Args:
        token_BTD: CLS, distillation token, then the patches, frequency-major.
        recipe: what is kept of them.
        bands: patches above each other.
    """
    if recipe.output == "tokens":
        return token_BTD[:, 1:].float()
    return pooled(patches_over_time(token_BTD[:, SPECIAL_TOKENS:].float(), bands), recipe.steps)


def ast_config(recipe: AudioEncoderRecipe, weights: Weights) -> ASTConfig:
    """Return the architecture of the network that the recipe names.

    Raises:
        RecipeError: nothing says how it is built.
        WeightsError: the weights are not an AST's.
    """
    known = architecture(recipe, weights)
    try:
        config = ASTConfig(**known)
        if config.hidden_act not in ACT2FN:
            raise ValueError(f"hidden_act: there is no '{config.hidden_act}'")
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise refused(weights, error) from None
    return config


def load_network(weights: Weights, config: ASTConfig, model: str) -> Any:
    """Build the network and fill it, in single precision, on the processor.

    Raises:
        WeightsError: the weights do not fit.
    """
    with torch.random.fork_rng(devices=[]), offline(), _without_bars():
        torch.manual_seed(weights.seed or 0)
        if weights.file is None:
            return ASTModel(config)
        tensors = {
            name.removeprefix(AST_PREFIX): tensor.float()
            for name, tensor in load_file(weights.file).items()
            if not name.startswith("classifier.")
        }
        # from_pretrained knows the names under which earlier versions of transformers saved the same tensors.
        loaded: Any = ASTModel.from_pretrained(
            None, config=config, state_dict=tensors, output_loading_info=True, ignore_mismatched_sizes=True
        )
    network, report = loaded
    unfit = sorted(
        {*report["missing_keys"], *report["unexpected_keys"], *(key for key, *_ in report["mismatched_keys"])}
    )
    if unfit:
        raise WeightsError(
            weights.file,
            fault=f"does not fit {model}: {len(unfit)} tensors are missing, unknown or of another size ({unfit[0]})",
            remedy="give the weights and the config.json of one and the same AST",
        )
    return network


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep transformers' own bars and its report on loading off the terminal: the fit is checked here."""
    remarks: Any = transformers_logging
    verbosity, bars = remarks.get_verbosity(), remarks.is_progress_bar_enabled()
    remarks.set_verbosity_error()
    remarks.disable_progress_bar()
    try:
        yield
    finally:
        remarks.set_verbosity(verbosity)
        if bars:
            remarks.enable_progress_bar()
