"""What open_clip knows of its models, without importing it: that takes seconds, and needs torch.

Its models' configurations are JSON files in its package. What it says of published weights stands in its code: that
is asked once for each of its versions, and remembered.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, FiniteFloat

from vaprompt.caching import remembered
from vaprompt.errors import RecipeError
from vaprompt.recipes import Recipe

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""OpenAI's, of red, green and blue: open_clip's where nothing else is said."""
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, which belong to other networks."""
WITHOUT_EFFECT = frozenset(
    (
        *("patch_dropout", "timm_drop", "timm_drop_path", "timm_model_pretrained", "hf_model_pretrained"),
        *("ls_init_value", "output_tokens", "hf_tokenizer_name"),
    )
)
"""What a configuration says of a tower that changes no embedding: what is for training alone, first values of what is
loaded, and where the tokenizer is, which open_clip rewrites in what it publishes."""


class Architecture(Recipe):
    """The `model_cfg` of a file that open_clip keeps beside weights, as far as it has a form."""

    model_config = ConfigDict(extra="ignore")

    vision_cfg: dict[str, Any] = Field({})
    """The image tower."""
    text_cfg: dict[str, Any] = Field({})
    """The text tower."""


class Preparation(Recipe):
    """Its `preprocess_cfg`, of which the rest is judged where it is used."""

    model_config = ConfigDict(extra="ignore", strict=True)

    mean: list[FiniteFloat] = Field(list(MEAN), min_length=3, max_length=3)
    """Subtracted from red, green and blue."""
    std: list[Annotated[FiniteFloat, Field(gt=0)]] = Field(list(STD), min_length=3, max_length=3)
    """What they are divided by."""


class WrittenConfig(Recipe):
    """The whole file."""

    model_config = ConfigDict(extra="ignore")

    model_cfg: Architecture = Architecture()
    """How the network is built."""
    preprocess_cfg: Preparation | None = None
    """How pictures are prepared."""


def open_clip_config(model: str) -> dict[str, Any]:
    """Return open_clip's configuration of a model.

    Raises:
        RecipeError: it has no such model; the nearest names are given.
    """
    files = _config_files()
    if model in files:
        config: dict[str, Any] = json.loads(files[model].read_text(encoding="utf-8"))
        if "embed_dim" in config:
            return config
    near = difflib.get_close_matches(model, files, n=3, cutoff=0.0)
    raise RecipeError(
        "image.model", fault=f"open_clip has no model '{model}'", remedy=f"the nearest are {', '.join(near)}"
    )


def differences(given: Mapping[str, Any], built: Mapping[str, Any]) -> list[str]:
    """Return in what the embeddings of one `model_cfg` differ from another's, with both values; the GELU apart.

    Args:
        given: the one from a file, of which a part may be left out.
        built: open_clip's own.
    """
    found = []
    if given.get("embed_dim", built["embed_dim"]) != built["embed_dim"]:
        found.append(f"embed_dim is {given['embed_dim']}, and not {built['embed_dim']}")
    for tower in ("vision_cfg", "text_cfg"):
        if tower not in given:
            continue
        for key in sorted({*given[tower], *built[tower]} - WITHOUT_EFFECT):
            theirs, ours = (
                config[tower][key] if key in config[tower] else _defaults()[tower].get(key) for config in (given, built)
            )
            if _plain(theirs) != _plain(ours):
                found.append(f"{tower}.{key} is {theirs}, and not {ours}")
    return found


def published(model: str, tag: str) -> dict[str, Any] | None:
    """Return what open_clip knows of the weights `tag` of a model: where they are, and how pictures are prepared.

    None where it knows none of this name.
    """

    def ask() -> dict[str, Any]:
        import open_clip

        return dict(open_clip.get_pretrained_cfg(model, tag))

    about = {"what": "open_clip.get_pretrained_cfg", "version": _version(), "model": model, "tag": tag}
    return remembered(about, ask) or None


def tags(model: str) -> list[str]:
    """Return the names of the weights that open_clip knows for a model."""
    import open_clip

    return list(open_clip.list_pretrained_tags_by_model(model))


def _plain(value: Any) -> Any:
    """Return what a field means, in whichever way it is written: a square's side as two numbers, nothing as false."""
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        return value[0]
    return value or None


@cache
def _defaults() -> dict[str, dict[str, Any]]:
    """Return what open_clip takes for the fields of a tower that a configuration leaves out."""

    def ask() -> dict[str, Any]:
        import open_clip

        return {"vision_cfg": asdict(open_clip.CLIPVisionCfg()), "text_cfg": asdict(open_clip.CLIPTextCfg())}

    found: dict[str, dict[str, Any]] = remembered({"what": "open_clip.CLIPVisionCfg", "version": _version()}, ask)
    return found


@cache
def _config_files() -> dict[str, Path]:
    found = find_spec("open_clip")
    assert found is not None
    assert found.origin is not None
    return {file.stem: file for file in sorted((Path(found.origin).parent / "model_configs").glob("*.json"))}


@cache
def _version() -> str:
    return metadata.version("open_clip_torch")
