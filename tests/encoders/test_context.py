"""A learned context goes through CLIP's text tower: begun with words, it gives those words' own embeddings."""

import pytest
import torch

from vaprompt.encoders.context import ContextTower
from vaprompt.encoders.recipes import ImageEncoderRecipe
from vaprompt.encoders.registry import image_encoder
from vaprompt.errors import RecipeError
from vaprompt.regions import PHRASES

EMBEDDED = ImageEncoderRecipe(model="embedded", weights="embedded")


def assert_begins_as_words(recipe):
    tower = ContextTower(recipe, PHRASES, "a photo of a person who looks")
    texts = [f"a photo of a person who looks {phrase}" for phrase in PHRASES]
    expected = torch.nn.functional.normalize(image_encoder(recipe).encode_text(texts), dim=-1)
    torch.testing.assert_close(tower(tower.start_MD), expected, atol=1e-5, rtol=1e-5)


def test_it_begins_as_its_words():
    assert_begins_as_words(EMBEDDED)


@pytest.mark.slow
def test_it_begins_as_its_words_in_full_size():
    assert_begins_as_words(ImageEncoderRecipe(weights="random:0"))


def test_gradients_reach_the_context_and_nothing_else():
    tower = ContextTower(EMBEDDED, PHRASES[:2], "a face showing")
    context = tower.start_MD.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(tower(context)[0, 0], context)
    assert gradient.abs().amax(dim=1).min() > 0
    assert not any(parameter.requires_grad for parameter in tower._network.parameters())


@pytest.mark.parametrize("words", [" ", "word " * 30])
def test_words_that_are_none_or_too_many_are_refused(words):
    with pytest.raises(RecipeError, match="tokens"):
        ContextTower(EMBEDDED, PHRASES, words)
