"""The pages that speak of the command line, held to what it does."""

import re
from pathlib import Path

import pytest

from tests.cli.test_command_line import ALL
from tests.extraction.conftest import TINY
from vaprompt.extraction import fingerprints
from vaprompt.extraction.recipe import ExtractRecipe
from vaprompt.recipes import read_recipe

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for folder in (".", "docs", "data", "extract", "train", "benchmarks")
    for page in sorted((ROOT / folder).glob("*.md"))
]
SOURCE = " ".join(path.read_text() for path in sorted((ROOT / "vaprompt").rglob("*.py")))
SYMPTOMS = (ROOT / "docs" / "troubleshooting.md").read_text().split("## Weights")[1]
# Composed of parts when they are told.
COMPOSED = {"were trained with QuickGELU, but ViT-B-16 is built with plain GELU"}


def quoted() -> list[str]:
    """Return the messages that head the paragraphs of the troubleshooting page, from the program's own on."""
    heads = re.findall(r"^\*\*(.*?)\*\*", SYMPTOMS, flags=re.MULTILINE | re.DOTALL)
    texts = {text for head in heads for text in re.findall(r"`([^`]+)`", head)}
    return sorted(text for text in texts if " " in text and text not in COMPOSED)


@pytest.mark.parametrize("message", quoted())
def test_a_message_that_the_page_explains_is_one_that_we_say(message: str):
    assert message in SOURCE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_on_a_page_exist(page: Path):
    for line in re.findall(r"vaprompt [a-z][^`\n|;#]*", page.read_text()):
        words = line.split()
        name = next((" ".join(words[:count]) for count in (3, 2) if " ".join(words[:count]) in ALL), None)
        if name is None:
            continue
        known = {flag for parameter in ALL[name].params for flag in parameter.opts} | {"--help"}
        used = {word.partition("=")[0].rstrip(".,)]") for word in words if word.startswith(("[--", "--"))}
        assert {flag.lstrip("[") for flag in used} <= known, f"{page.name}: {line}"


@pytest.mark.parametrize(
    ("faces", "changes"),
    [
        ("crops", ()),
        ("detect", ()),
        ("frames", ("image.activation=model",)),
        ("frames", ("audio.spectrogram=decibel",)),
    ],
)
def test_the_format_names_every_field_of_a_fingerprint(faces, changes, monkeypatch):
    found = {"detector": "a name", "detector_weights": "a digest"}  # as where the detector is installed
    monkeypatch.setattr(fingerprints, "detector_fingerprint", lambda: found)
    recipe = read_recipe(ExtractRecipe, overrides=(*TINY, *changes))
    text = (ROOT / "docs/store-format.md").read_text()
    for stream, fingerprint in fingerprints.stream_fingerprints(recipe, faces).items():
        (row,) = re.findall(rf"^\| `{stream}` \| (`schema`.*) \|$", text, flags=re.MULTILINE)
        for field in (*fingerprint, *fingerprint.get("log_mel", ())):
            assert f"`{field}`" in row, f"{field} of {stream}"
    (row,) = re.findall(r"^\| `dataset` \| (.*) \|$", text, flags=re.MULTILINE)
    assert f"`{faces}`" in row
