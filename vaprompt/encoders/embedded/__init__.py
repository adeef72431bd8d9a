"""A miniature CLIP and a miniature AST that come with the package, for the demo and the tests.

They were trained on the synthetic generator alone, by `benchmarks/train_embedded_encoders.py`: the image tower is
aligned with the text tower on drawn faces, the sound tower hears the generator's voice parameters. On pictures of
real people they know nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from vaprompt.media.recipes import LogMelRecipe

_FOLDER = Path(__file__).parent
CLIP_WEIGHTS = _FOLDER / "clip.safetensors"
AST_WEIGHTS = _FOLDER / "ast.safetensors"
NOTE = "embedded encoders: they know drawn faces and made-up voices only; scores say nothing about real people"


def clip_config() -> dict[str, Any]:
    """Return the image and text towers' configuration, in the form of open_clip's `open_clip_config.json`.

    `model_cfg` builds the network (`open_clip.CLIP(**model_cfg)`); `preprocess_cfg` holds size, mean and std.
    """
    return _read("clip.json")


def ast_config() -> dict[str, Any]:
    """Return the arguments of `transformers.ASTConfig` for the sound tower."""
    return _read("ast.json")


def tokenize(texts: Sequence[str]) -> Tensor:
    """Return the texts as tokens for the miniature CLIP, int64 (texts, 96)."""
    from vaprompt.encoders.embedded.tokenizer import tokenize as bytewise

    return bytewise(texts)


def log_mel_recipe() -> LogMelRecipe:
    """Return how sound becomes the log-Mel picture that the miniature AST reads: as for the full one."""
    from vaprompt.media.recipes import LogMelRecipe

    return LogMelRecipe()


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((_FOLDER / name).read_text(encoding="utf-8"))
    return content
