"""From an encoder's recipe to the encoder: the one place that knows which kinds there are."""

from __future__ import annotations

from vaprompt.encoders.base import AudioEncoder, ImageEncoder
from vaprompt.encoders.recipes import AudioEncoderRecipe, ImageEncoderRecipe


def image_encoder(recipe: ImageEncoderRecipe, device: str = "cpu") -> ImageEncoder:
    """Load the image encoder that the recipe names.

    Raises:
        WeightsError: its weights are not at hand, or do not belong to the model.
        RecipeError: there is no such model.
    """
    from vaprompt.encoders.clip import OpenClipEncoder

    return OpenClipEncoder(recipe, device)


def audio_encoder(recipe: AudioEncoderRecipe, device: str = "cpu") -> AudioEncoder:
    """Load the audio encoder that the recipe names.

    Raises:
        WeightsError: its weights are not at hand, or do not belong to the model.
        RecipeError: more time steps are asked for than it has.
    """
    from vaprompt.encoders.spectrogram import AstEncoder, LogMelPicture

    return AstEncoder(recipe, device) if recipe.kind == "ast" else LogMelPicture(recipe, device)
