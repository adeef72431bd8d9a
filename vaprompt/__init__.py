"""Valence and arousal from faces and voices in video.

The names below are loaded on first use, so that `import vaprompt` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaprompt.metrics import ccc as ccc
    from vaprompt.regions import soft_labels as soft_labels
    from vaprompt.store import FeatureStore as FeatureStore
    from vaprompt.training.runs import load_run as load_run

__version__ = "0.1.0"

_HOME = {
    "FeatureStore": "vaprompt.store",
    "ccc": "vaprompt.metrics",
    "load_run": "vaprompt.training.runs",
    "soft_labels": "vaprompt.regions",
}
__all__ = ["FeatureStore", "__version__", "ccc", "load_run", "soft_labels"]


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _HOME:
        raise AttributeError(f"module 'vaprompt' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
