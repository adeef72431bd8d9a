"""What determines an embedding of sound, known before the network is loaded and without torch."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, FiniteFloat, ValidationError

from vaprompt.encoders.recipes import EMBEDDED, AudioEncoderRecipe
from vaprompt.encoders.weights import AST_PREPROCESSOR, Weights, audio_weights, complaint, senseless
from vaprompt.errors import RecipeError, WeightsError
from vaprompt.media.recipes import DecibelRecipe, LogMelRecipe
from vaprompt.recipes import Recipe

SCHEMA = 1
"""Raised whenever spectrogram.py changes what an embedding is."""
PAPER_MODEL = "MIT/ast-finetuned-audioset-10-10-0.4593"
"""Its architecture and log-Mel are the defaults of transformers, of `AstForm` and of `LogMelRecipe`."""
MODEL_TYPE = "audio-spectrogram-transformer"
"""What transformers calls an AST in its config.json."""

UNCHANGED = {"mean": 0.0, "std": 0.5}
"""The mean and deviation that leave a log-Mel as it is: it is divided by twice the deviation."""

ARCHITECTURE = (
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
"""The fields of config.json that count; the labels of the classifier that is left out need not be consistent."""


class AstForm(Recipe):
    """How an AST is built, by the names of transformers' `ASTConfig` and with its defaults."""

    model_config = ConfigDict(extra="ignore", strict=True)

    hidden_size: int = Field(768, ge=1)
    """Channels of a token."""
    num_hidden_layers: int = Field(12, ge=1)
    """Layers of the tower."""
    num_attention_heads: int = Field(12, ge=1)
    """Attention heads of a layer."""
    intermediate_size: int = Field(3072, ge=1)
    """Channels within a layer's perceptron."""
    hidden_act: str = "gelu"
    """The perceptron's activation."""
    layer_norm_eps: FiniteFloat = 1e-12
    """Added to the variance that a norm divides by."""
    qkv_bias: bool = True
    """Whether queries, keys and values have biases."""
    patch_size: int = Field(16, ge=1)
    """Bands, and frames, that a patch covers."""
    frequency_stride: int = Field(10, ge=1)
    """Bands from one patch to the next above it."""
    time_stride: int = Field(10, ge=1)
    """Frames from one patch to the next after it."""
    max_length: int = Field(1024, ge=1)
    """Frames of the picture."""
    num_mel_bins: int = Field(128, ge=1)
    """Bands of the picture."""

    def grid(self) -> tuple[int, int]:
        """Return how many patches lie above each other (bands) and one after the other (time steps)."""
        size = self.patch_size
        return (self.num_mel_bins - size) // self.frequency_stride + 1, (self.max_length - size) // self.time_stride + 1


class Hearing(Recipe):
    """The file beside an AST's weights that says which picture of sound it reads; of `ASTFeatureExtractor`."""

    model_config = ConfigDict(extra="ignore")

    sampling_rate: int = Field(LogMelRecipe().rate, ge=8000, le=192000)
    """Samples a second of the sound."""
    mean: FiniteFloat = LogMelRecipe().mean
    """Subtracted from the logarithms."""
    std: FiniteFloat = Field(LogMelRecipe().std, gt=0)
    """Half of what the result is divided by."""


def audio_fingerprint(recipe: AudioEncoderRecipe, weights: Weights | None = None) -> dict[str, Any]:
    """Return everything that determines the audio embeddings of a video, without loading the network.

    Raises:
        WeightsError: the weights are not at hand, or not an AST's.
        RecipeError: more steps are asked for than the encoder has, or longer windows than it takes.
    """
    if recipe.kind == "logmel":
        return _fingerprint(recipe, LogMelRecipe(), LogMelRecipe().frames, "none")
    weights = weights or audio_weights(recipe)
    bands, steps = ast_form(recipe, weights).grid()
    # The distillation token comes with the patches.
    own_steps = steps if recipe.output == "steps" else bands * steps + 1
    return _fingerprint(recipe, sound_picture(recipe, weights), own_steps, weights.digest)


def architecture(recipe: AudioEncoderRecipe, weights: Weights) -> dict[str, Any]:
    """Return the arguments of transformers' `ASTConfig`; what is left out has its default.

    Raises:
        RecipeError: nothing says how the network is built.
        WeightsError: the weights are not an AST's.
    """
    if recipe.model == EMBEDDED:
        from vaprompt.encoders import embedded

        return dict(embedded.ast_config())
    if weights.config is None:
        if recipe.model != PAPER_MODEL:
            raise RecipeError(
                f"audio.model = {recipe.model}",
                fault="its architecture is not known without its config.json",
                remedy=f'random weights go with "{PAPER_MODEL}" or "embedded"',
            )
        return {}
    if weights.config.get("model_type") != MODEL_TYPE:
        raise WeightsError(
            weights.file,
            fault=f"belongs to a '{weights.config.get('model_type')}'",
            remedy="give the weights of an AST",
        )
    return {key: value for key, value in weights.config.items() if key in ARCHITECTURE}


def ast_form(recipe: AudioEncoderRecipe, weights: Weights) -> AstForm:
    """Return the grid of patches of the network that the recipe names.

    Raises:
        RecipeError: nothing says how the network is built.
        WeightsError: the weights are not an AST's, or say what no AST is.
    """
    try:
        return AstForm.model_validate(architecture(recipe, weights))
    except ValidationError as error:
        raise refused(weights, error) from None


def refused(weights: Weights, error: Exception) -> WeightsError:
    """Return the error for a config.json that describes no network that can be built."""
    why = complaint(error) if isinstance(error, ValidationError) else error
    fault = f"has a configuration that no AST has ({why})"
    return WeightsError(weights.file, fault=fault, remedy="fetch the weights again")


def log_mel_recipe(recipe: AudioEncoderRecipe, weights: Weights) -> LogMelRecipe:
    """Return the picture of sound that the network reads.

    Raises:
        RecipeError: nothing says how the network is built.
        WeightsError: the weights are not an AST's, or say what no AST is.
    """
    if recipe.model == EMBEDDED:
        from vaprompt.encoders import embedded

        return embedded.log_mel_recipe()
    said, form = weights.preprocessor or {}, ast_form(recipe, weights)
    if not said.get("do_normalize", True):
        said = {**said, **UNCHANGED}
    try:
        hearing = Hearing.model_validate(said)
    except ValidationError as error:
        assert weights.file is not None
        raise senseless(weights.file.with_name(AST_PREPROCESSOR), error) from None
    return LogMelRecipe(
        rate=hearing.sampling_rate,
        bins=form.num_mel_bins,
        frames=form.max_length,
        mean=hearing.mean,
        std=hearing.std,
    )


def sound_picture(recipe: AudioEncoderRecipe, weights: Weights) -> LogMelRecipe | DecibelRecipe:
    """Return the picture of sound that the recipe wants the network to read.

    Raises:
        RecipeError: nothing says how the network is built.
        WeightsError: the weights are not an AST's, or say what no AST is.
    """
    own = log_mel_recipe(recipe, weights)
    if recipe.spectrogram == "weights":
        return own
    return DecibelRecipe(rate=own.rate, bins=own.bins, frames=own.frames)


def _fingerprint(
    recipe: AudioEncoderRecipe, mel: LogMelRecipe | DecibelRecipe, own_steps: int, digest: str
) -> dict[str, Any]:
    if recipe.steps is not None and recipe.steps > own_steps:
        raise RecipeError(
            f"audio.steps = {recipe.steps}",
            fault=f"is more than the {own_steps} time steps of the encoder",
            remedy=f"set audio.steps to at most {own_steps}, or leave it out",
        )
    if recipe.window > mel.reach:
        # The picture begins with the window: what it cuts is the latest sound.
        raise RecipeError(
            f"audio.window = {recipe.window:g}",
            fault=f"is more than the {mel.reach:g} s that the encoder takes, and it would hear the oldest alone",
            remedy=f"set audio.window to at most {mel.reach:g}",
        )
    network = recipe.kind == "ast"
    output = "last layer's patches, mean over frequency bands" if network else "log-Mel"
    if recipe.output == "tokens":
        output = "last layer's tokens without CLS, distillation token first, then patches frequency-major"
    return {
        "schema": SCHEMA,
        "kind": recipe.kind,
        "model": recipe.model if network else "none",
        "weights": digest,
        "output": output,
        "steps": recipe.steps or own_steps,
        "precision": recipe.precision if network else "fp32",
        "window": recipe.window,
        "hop": recipe.hop,
        "log_mel": mel.model_dump(mode="json"),
    }
