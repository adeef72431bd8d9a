"""Which frozen encoders turn pictures and sound into embeddings, and how: the recipes alone, free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from vaprompt.encoders.embedded import NOTE
from vaprompt.recipes import Recipe

Precision = Literal["fp32", "bf16", "fp16"]
Batch = Literal["auto"] | Annotated[int, Field(ge=1, le=4096)]

COMPILED_PICTURES, COMPILED_WINDOWS = 256, 32
"""What a batch of `auto` is where networks are compiled: trying sizes would compile them for each."""

EMBEDDED = "embedded"
"""The value of `model` and `weights` that means the miniatures inside the package."""


class ImageEncoderRecipe(Recipe):
    """The image encoder, whose text tower also embeds the prompts."""

    kind: Literal["open_clip"] = "open_clip"
    """The family of the encoder."""
    model: str = "ViT-B-16-quickgelu"
    """Any model name of open_clip, or `embedded` for the miniature inside the package."""
    weights: str = "openai"
    """A tag of open_clip that lies in the local cache; a folder or a .safetensors file; `random:SEED`; `embedded`."""
    normalisation: Literal["weights", "imagenet"] = "weights"
    """Mean and deviation that pictures are brought to: those that the `weights` were trained with, or `imagenet`'s, as
    the released code has it by mistake."""
    activation: Literal["weights", "model"] = "weights"
    """`weights`: a network whose activation is not the one that they were trained with is refused. `model`: whatever
    the model is built with is taken, as the released code puts OpenAI's QuickGELU weights into a plain GELU network."""
    precision: Precision = "fp32"
    """Number format of the network's matrices; features are stored as float16 in any case."""
    batch: Batch = "auto"
    """Pictures encoded at once, or `auto`: what is fastest here, measured at the start; changes speed alone."""
    compile: bool = False
    """Let torch compile the network on an accelerator, for one size of batch, in a minute or more at the start; changes
    rounding only."""

    @property
    def compiled_for(self) -> int | None:
        """The size of batch that an accelerator's network is compiled for; None: it is not compiled."""
        if not self.compile:
            return None
        return COMPILED_PICTURES if self.batch == "auto" else self.batch

    @model_validator(mode="after")
    def _miniature_is_whole(self) -> ImageEncoderRecipe:
        _require_whole_miniature(self.model, self.weights)
        return self


class AudioEncoderRecipe(Recipe):
    """The audio encoder and the fixed grid of windows that it hears."""

    kind: Literal["ast", "logmel"] = "ast"
    """`ast`: the audio spectrogram transformer; `logmel`: the log-Mel picture, for a CNN trained with the heads."""
    model: str = "MIT/ast-finetuned-audioset-10-10-0.4593"
    """Repository of the AST on the Hugging Face hub, or `embedded`; of no meaning for `logmel`."""
    weights: str = "MIT/ast-finetuned-audioset-10-10-0.4593"
    """A repository in the local cache; a folder with config.json and model.safetensors; `random:SEED`; `embedded`."""
    spectrogram: Literal["weights", "decibel"] = "weights"
    """How sound becomes the picture that AST reads: as its `weights` were trained, or by the released code's own
    picture in decibels, of which ten seconds fill 313 of AST's 1,024 columns."""
    output: Literal["steps", "tokens"] = "steps"
    """What is kept of AST: `steps` in time, each the mean over the frequency bands; or its `tokens` as they come, as
    released: the distillation token, then every patch, band by band, so that a sequence sweeps time 12 times."""
    precision: Precision = "fp32"
    """Number format of the network's matrices; features are stored as float16 in any case."""
    batch: Batch = "auto"
    """Windows encoded at once, or `auto`: what is fastest here, measured at the start; changes speed alone."""
    compile: bool = False
    """Let torch compile the network on an accelerator, for one size of batch, in a minute or more at the start; changes
    rounding only."""
    steps: int | None = Field(None, ge=1, le=4096)
    """Time steps kept of each window, by averaging; left out: as many as the encoder has (AST: 101)."""
    window: float = Field(10.0, gt=0, le=60)
    """Seconds of sound that one window holds."""
    hop: float = Field(3.0, ge=0.04, le=60)
    """Seconds from one window's end to the next one's."""

    @property
    def compiled_for(self) -> int | None:
        """The size of batch that an accelerator's network is compiled for; None: it is not compiled."""
        if not self.compile:
            return None
        return COMPILED_WINDOWS if self.batch == "auto" else self.batch

    @model_validator(mode="after")
    def _miniature_is_whole(self) -> AudioEncoderRecipe:
        if self.kind == "ast":
            _require_whole_miniature(self.model, self.weights)
        return self

    @model_validator(mode="after")
    def _tokens_of_a_network(self) -> AudioEncoderRecipe:
        for name, value in (("spectrogram", "decibel"), ("output", "tokens")):
            if getattr(self, name) == value and self.kind != "ast":
                raise ValueError(f'{name} = "{value}" goes with kind = "ast"')
        if self.output == "tokens" and self.steps is not None:
            raise ValueError('output = "tokens" keeps every token: leave steps out')
        return self


def _require_whole_miniature(model: str, weights: str) -> None:
    if weights == EMBEDDED and model != EMBEDDED:
        raise ValueError('weights = "embedded" fit model = "embedded" alone: set both')


def remarks(extraction: Mapping[str, Any]) -> list[str]:
    """Return what has to be said wherever scores from these encoders are shown.

    Args:
        extraction: a resolved extraction recipe, as a store or a run keeps it.
    """
    weights = {str(extraction.get(stream, {}).get("weights", "")) for stream in ("image", "audio")}
    said = []
    if EMBEDDED in weights:
        said.append(NOTE)
    if any(name.startswith("random:") for name in weights):
        said.append("encoders with random weights: scores say nothing about the method")
    return said
