"""The recipe of fine-tuning: what is trained beside the heads, how fast, and what is done to the raw media before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vaprompt.errors import OptionError
from vaprompt.recipes import Recipe
from vaprompt.store.streams import checked_stream_name
from vaprompt.training.recipe import TrainRecipe


class TuningRecipe(Recipe):
    """What of one encoder is trained."""

    tune: Literal["all", "last", "norms", "none"] = "all"
    """`all` of it; the `last` blocks and what stands behind them; the `norms` alone (LayerNorm, or what a network has
    in its place); `none`: it stays as it is."""
    blocks: int = Field(4, ge=1, le=128)
    """How many blocks are the last ones; of meaning for `last` alone."""


class AugmentationRecipe(Recipe):
    """Changes to raw windows while they are trained on: drawn anew for each window and epoch, one for all its pictures.

    Every field's 0 leaves the window as it is.
    """

    flip: float = Field(0.0, ge=0, le=1)
    """Probability that the pictures are mirrored."""
    crop: float = Field(0.0, ge=0, le=0.5)
    """Share of the pictures' sides that is cut away at most; what is left is brought back to their size."""
    brightness: float = Field(0.0, ge=0, lt=1)
    """Share by which the pictures become brighter or darker at most."""
    gain: float = Field(0.0, ge=0, le=30)
    """Decibels by which the sound becomes louder or softer at most."""
    time_mask: int = Field(0, ge=0, le=1024)
    """Columns of the sound's picture that are blanked at most, in one stretch (SpecAugment); 100 are a second."""
    band_mask: int = Field(0, ge=0, le=128)
    """Mel bands of the sound's picture that are blanked at most, in one stretch (SpecAugment)."""

    @property
    def on(self) -> bool:
        """Whether anything is changed at all."""
        return any(getattr(self, name) for name in type(self).model_fields)


class TuningOptimiserRecipe(Recipe):
    """AdamW's settings (released code)."""

    learning_rate: float = Field(1e-4, gt=0, le=1)
    """Of the heads."""
    encoder_learning_rate: float = Field(3e-6, gt=0, le=1)
    """Of what is trained of the encoders."""
    weight_decay: float = Field(1e-4, ge=0, le=1)


class FinetuneRecipe(Recipe):
    """Fine-tuning; windows, regions, model and loss are those of the run that it starts from."""

    image: TuningRecipe = TuningRecipe()
    """What of the image encoder is trained; its text tower never is."""
    audio: TuningRecipe = TuningRecipe()
    """What of the audio encoder is trained."""
    optimiser: TuningOptimiserRecipe = TuningOptimiserRecipe()
    augmentation: AugmentationRecipe = AugmentationRecipe()
    batch: int | None = Field(None, ge=2, le=65536)
    """Windows a step, over all of which CCC is computed; left out: as many as the run was trained with."""
    at_once: Literal["auto"] | Annotated[int, Field(ge=1, le=65536)] = "auto"
    """Windows in the encoders at once. Fewer than a step's are encoded twice, the second time with gradients, so that
    CCC is that of the whole step all the same. `auto`: as many as fit on an accelerator, 4 on the processor."""
    checkpointing: bool = True
    """Keep each block's input alone and compute the rest again on the way back: a third slower, in a sixth of the
    memory."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Number format of the encoders' arithmetic; weights and heads stay in fp32. `auto`: bf16 on GPUs that have it,
    fp16 on others, fp32 on the processor."""
    epochs: int = Field(15, ge=1, le=100_000)
    """Passes over the training windows, at most (paper: 15)."""
    patience: int = Field(5, ge=1, le=100_000)
    """Stop after so many epochs without gain in the mean validation CCC (released code: 5)."""
    min_gain: float = Field(1e-4, ge=0, le=1)
    """What counts as a gain (released code: 1e-4)."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Of the order of windows, dropout and augmentation."""


def heads_recipe(parent: TrainRecipe, recipe: FinetuneRecipe, stream: str | None) -> TrainRecipe:
    """Return the new run's training recipe: the parent's, with what fine-tuning sets."""
    optimiser = parent.optimiser.model_copy(
        update={
            "learning_rate": recipe.optimiser.learning_rate,
            "weight_decay": recipe.optimiser.weight_decay,
            "average": 0.0,  # none is taken while encoders are trained
        }
    )
    last = parent.loss.kl if parent.loss.kl_end is None else parent.loss.kl_end
    return parent.model_copy(
        update={
            "loss": parent.loss.model_copy(update={"kl": last, "kl_end": None}),
            "stream": stream,
            "batch": recipe.batch or parent.batch,
            "optimiser": optimiser,
            "epochs": recipe.epochs,
            "patience": recipe.patience,
            "min_gain": recipe.min_gain,
            "seed": recipe.seed,
        }
    )


def stream_of(parent: TrainRecipe, recipe: FinetuneRecipe, new: Path, given: str | None) -> str | None:
    """Return the name under which a store has features from the new run's encoders.

    It is `given`, or the new folder's as far as it can be a stream's. Where no encoder is tuned, features stay those of
    the run that it starts from, and a store holds nothing twice.

    Raises:
        OptionError: a name is given, and no encoder is tuned.
        StoreError: it cannot be the name of a stream.
    """
    if all(getattr(recipe, kind).tune == "none" for kind in parent.model.modalities):
        if given is not None:
            fault = "no encoder is tuned, so that features stay those of the run that it starts from"
            raise OptionError(f"--stream {given}", fault=fault, remedy="leave it out")
        return parent.stream
    if given:
        return checked_stream_name(given)
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "-" for letter in new.name)
    return kept[:64] or "tuned"
