"""The extraction recipe: everything that decides what stands in a feature store."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe
from vaprompt.faces.recipe import FaceRecipe
from vaprompt.recipes import Recipe, Texts
from vaprompt.regions import PHRASES, TEMPLATES


class PromptRecipe(Recipe):
    """The texts whose embeddings are kept in the store, so that training with them needs no text encoder."""

    phrases: Texts = Field(PHRASES, min_length=1)
    """What the regions of the valence-arousal plane are called; or the name of a file that has one a line."""
    templates: tuple[Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$")], ...] = Field(TEMPLATES, min_length=1)
    """Sentences with one {} that a phrase is put in."""

    def texts(self) -> list[str]:
        """Return every phrase in every template, phrase by phrase, without repetition."""
        return list(dict.fromkeys(template.format(phrase) for phrase in self.phrases for template in self.templates))


class ExtractRecipe(Recipe):
    """How a data set becomes a feature store (stage 1)."""

    image: ImageEncoderRecipe = ImageEncoderRecipe()
    """The encoder of faces and prompts."""
    image_rate: Literal["all"] | Annotated[float, Field(gt=0, le=240)] = "all"
    """Frames that are encoded: all of them, or this number a second (the frame nearest to each point of time)."""
    audio: AudioEncoderRecipe = AudioEncoderRecipe()
    """The encoder of sound and its grid of windows."""
    prompts: PromptRecipe = PromptRecipe()
    """The texts to embed."""
    face: FaceRecipe = FaceRecipe()
    """How faces are found, followed and cut out, where the data set says `faces = "detect"` and in prediction."""
