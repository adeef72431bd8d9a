"""What open_clip knows of its models, without importing it: that takes seconds, and needs torch.

Its models' configurations are JSON files in its package. What it says of published weights stands in its code: that
is asked once for each of its versions, and remembered.
"""

from __future__ import annotations

import difflib
import json
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vaprompt.caching import remembered
from vaprompt.errors import RecipeError

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""OpenAI's, of red, green and blue: open_clip's where nothing else is said."""
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, which belong to other networks."""


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


@cache
def _config_files() -> dict[str, Path]:
    found = find_spec("open_clip")
    assert found is not None
    assert found.origin is not None
    return {file.stem: file for file in sorted((Path(found.origin).parent / "model_configs").glob("*.json"))}


@cache
def _version() -> str:
    return metadata.version("open_clip_torch")
