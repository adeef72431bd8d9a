"""Encoders of sound: the audio spectrogram transformer (AST), and the log-Mel picture itself.

Axes: B windows, L samples, F frames of 10 ms, M mel bins, T tokens, S time steps, D channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float32
from safetensors.torch import load_file
from torch import Tensor
from transformers import ASTConfig, ASTModel
from transformers.utils import logging as transformers_logging

from vaprompt.encoders.pooling import patches_over_time, pooled
from vaprompt.encoders.recipes import EMBEDDED, AudioEncoderRecipe
from vaprompt.encoders.weights import AST_PREFIX, Weights, audio_weights, offline
from vaprompt.errors import RecipeError, WeightsError
from vaprompt.media.logmel import LogMelRecipe, log_mel

SCHEMA = 1
"""Raised whenever this module changes what an embedding is."""
PAPER_MODEL = "MIT/ast-finetuned-audioset-10-10-0.4593"
"""Its architecture and log-Mel are the defaults of transformers and of `LogMelRecipe`."""
SPECIAL_TOKENS = 2
"""CLS and distillation token, in front of the patches."""


def audio_fingerprint(recipe: AudioEncoderRecipe) -> dict[str, Any]:
    """Return everything that determines the audio embeddings of a video, without loading the network.

    Raises:
        WeightsError: the weights are not at hand, or not an AST's.
        RecipeError: more steps are asked for than the encoder has.
    """
    if recipe.kind == "logmel":
        return _fingerprint(recipe, LogMelRecipe(), LogMelRecipe().frames, "none")
    weights = audio_weights(recipe)
    config = _ast_config(recipe, weights)
    return _fingerprint(recipe, _log_mel_recipe(recipe, weights, config), _grid(config)[1], weights.digest)


class AstEncoder:
    """A frozen AST, its patches pooled over frequency; see `AudioEncoder` for the meaning of its members."""

    def __init__(self, recipe: AudioEncoderRecipe, device: str = "cpu") -> None:
        """Load the network that the recipe names onto a device.

        Raises:
            WeightsError: the weights are not at hand, or do not belong to an AST.
            RecipeError: more steps are asked for than the network has.
        """
        weights = audio_weights(recipe)
        config = _ast_config(recipe, weights)
        self._log_mel = _log_mel_recipe(recipe, weights, config)
        self._bands, own_steps = _grid(config)
        self.fingerprint = _fingerprint(recipe, self._log_mel, own_steps, weights.digest)
        self.steps, self.dim, self.rate = recipe.steps or own_steps, int(config.hidden_size), self._log_mel.rate
        self._device = torch.device(device)
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[recipe.precision]
        network = _load(weights, config, recipe.model)
        self._network = network.eval().requires_grad_(False).to(device=self._device, dtype=self._dtype)

    @torch.no_grad()
    def encode(self, wave_BL: Float32[Tensor, "B L"]) -> Float32[Tensor, "B S D"]:
        """Return the embeddings of mono sounds in [-1, 1], as sequences over time, on the CPU."""
        mel_BFM = log_mel(wave_BL.to(self._device), self._log_mel)
        token_BTD: Tensor = self._network(mel_BFM.to(self._dtype)).last_hidden_state
        sequence_BSD = patches_over_time(token_BTD[:, SPECIAL_TOKENS:].float(), self._bands)
        return pooled(sequence_BSD, self.steps).cpu()


class LogMelPicture:
    """The log-Mel picture itself, averaged over time; a CNN over it is trained with the heads (Table 1's baseline)."""

    def __init__(self, recipe: AudioEncoderRecipe, device: str = "cpu") -> None:
        """Prepare the filter bank on a device.

        Raises:
            RecipeError: more steps are asked for than the picture has frames.
        """
        self._log_mel = LogMelRecipe()
        self._device = torch.device(device)
        self.fingerprint = _fingerprint(recipe, self._log_mel, self._log_mel.frames, "none")
        self.steps, self.dim, self.rate = recipe.steps or self._log_mel.frames, self._log_mel.bins, self._log_mel.rate

    @torch.no_grad()
    def encode(self, wave_BL: Float32[Tensor, "B L"]) -> Float32[Tensor, "B S D"]:
        """Return the log-Mel pictures of mono sounds in [-1, 1], as sequences over time, on the CPU."""
        return pooled(log_mel(wave_BL.to(self._device), self._log_mel), self.steps).cpu()


def _fingerprint(recipe: AudioEncoderRecipe, mel: LogMelRecipe, own_steps: int, digest: str) -> dict[str, Any]:
    if recipe.steps is not None and recipe.steps > own_steps:
        raise RecipeError(
            f"audio.steps = {recipe.steps}",
            fault=f"is more than the {own_steps} time steps of the encoder",
            remedy=f"set audio.steps to at most {own_steps}, or leave it out",
        )
    network = recipe.kind == "ast"
    return {
        "schema": SCHEMA,
        "kind": recipe.kind,
        "model": recipe.model if network else "none",
        "weights": digest,
        "output": "last layer's patches, mean over frequency bands" if network else "log-Mel",
        "steps": recipe.steps or own_steps,
        "precision": recipe.precision if network else "fp32",
        "window": recipe.window,
        "hop": recipe.hop,
        "log_mel": mel.model_dump(mode="json"),
    }


def _ast_config(recipe: AudioEncoderRecipe, weights: Weights) -> ASTConfig:
    if recipe.model == EMBEDDED:
        from vaprompt.encoders import embedded

        return ASTConfig(**embedded.ast_config())
    if weights.config is None:
        if recipe.model != PAPER_MODEL:
            raise RecipeError(
                f"audio.model = {recipe.model}",
                fault="its architecture is not known without its config.json",
                remedy=f'random weights go with "{PAPER_MODEL}" or "embedded"',
            )
        return ASTConfig()
    if weights.config.get("model_type") != ASTConfig.model_type:
        raise WeightsError(
            weights.file,
            fault=f"belongs to a '{weights.config.get('model_type')}'",
            remedy="give the weights of an AST",
        )
    # The labels of the classifier that is left out are of no use, and need not be consistent.
    known = {key: value for key, value in weights.config.items() if key in _ARCHITECTURE}
    try:
        return ASTConfig(**known)
    except (TypeError, ValueError) as error:
        fault = f"has a configuration that transformers refuses ({error})"
        raise WeightsError(weights.file, fault=fault, remedy="fetch the weights again") from None


_ARCHITECTURE = frozenset(
    (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "hidden_act",
        "layer_norm_eps",
        "patch_size",
        "qkv_bias",
        "frequency_stride",
        "time_stride",
        "max_length",
        "num_mel_bins",
    )
)


def _log_mel_recipe(recipe: AudioEncoderRecipe, weights: Weights, config: ASTConfig) -> LogMelRecipe:
    if recipe.model == EMBEDDED:
        from vaprompt.encoders import embedded

        return embedded.log_mel_recipe()
    said = weights.preprocessor or {}
    defaults = LogMelRecipe()
    return LogMelRecipe(
        rate=int(said.get("sampling_rate", defaults.rate)),
        bins=int(config.num_mel_bins),
        frames=int(config.max_length),
        mean=float(said.get("mean", defaults.mean)),
        std=float(said.get("std", defaults.std)),
    )


def _grid(config: ASTConfig) -> tuple[int, int]:
    """Return how many patches lie above each other (bands) and one after the other (time steps)."""
    size = config.patch_size
    high, wide = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    bands = (config.num_mel_bins - high) // config.frequency_stride + 1
    return bands, (config.max_length - wide) // config.time_stride + 1


def _load(weights: Weights, config: ASTConfig, model: str) -> Any:
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
