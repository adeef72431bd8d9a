"""A page with whatever body a test wants."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pytest

from vaprompt.report.pages import page as pages
from vaprompt.report.pages.page import CHART_SCRIPTS, Page, write_page

HOSTILE = "</script><script>window.stolen = 1</script><img src=x onerror='window.stolen = 2'>\"'&\u2028{{ 7 * 7 }}"


def write_small(
    monkeypatch: pytest.MonkeyPatch,
    target: Path,
    body: str,
    *,
    script: str = "",
    data: Mapping[str, Any] | None = None,
    **context: Any,
) -> Path:
    """Write a page whose main part is the template `body`, and which runs `script` behind the charts' scripts."""
    base = (pages.TEMPLATES / "base.html").read_text()
    templates = {"base.html": base, "small.html": "{% extends 'base.html' %}{% block main %}" + body + "{% endblock %}"}
    room = jinja2.Environment(loader=jinja2.DictLoader(templates), autoescape=True, undefined=jinja2.StrictUndefined)
    asset = pages.asset
    with monkeypatch.context() as patched:
        patched.setattr(pages, "environment", lambda: room)
        patched.setattr(pages, "asset", lambda name: script if name == "test.js" else asset(name))
        write_page(
            Page("small.html", "Small", context, data or {}, scripts=(*CHART_SCRIPTS, "test.js")),
            target,
        )
    return target
