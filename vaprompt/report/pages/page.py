"""One self-contained file: a template, the styles and scripts that it needs, and its data, none of which can run.

Whatever comes from a user (names, phrases, notes) is text: templates escape it, data lies in blocks that no browser
executes, scripts write it with `textContent`, and the page's own policy lets only the scripts run that are named by
their digest, and nothing be asked for from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import vaprompt
from vaprompt.files import published

ASSETS = Path(__file__).parent / "assets"
TEMPLATES = Path(__file__).parent / "templates"
CHART_SCRIPTS = ("uplot/uPlot.iife.min.js", "data.js", "theme.js", "zooming.js", "charts.js")
CHART_STYLES = ("uplot/uPlot.min.css", "page.css", "charts.css")
POLICY = {
    "default-src": "'none'",
    "style-src": "'unsafe-inline'",
    "img-src": "data:",
    "base-uri": "'none'",
    "form-action": "'none'",
}
"""What a page may do; a script's digest is added for each of its own."""


@dataclass(frozen=True)
class Page:
    """What a page is made of."""

    template: str
    """Name of the template in `templates/`."""
    title: str
    context: Mapping[str, Any] = field(default_factory=dict)
    """What the template shows."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """JSON-ready values that scripts read, each in a block of its own that is parsed when it is asked for."""
    scripts: Sequence[str] = CHART_SCRIPTS
    """Files in `assets/`, in the order in which they run."""
    styles: Sequence[str] = CHART_STYLES
    """Files in `assets/`."""
    policy: Mapping[str, str] = field(default_factory=dict)
    """Directives of the content security policy beyond `POLICY`, such as `media-src` for a page with a video; a
    `script-src` names scripts besides the page's own."""


def render(page: Page) -> str:
    """Return the page as HTML."""
    scripts = _scripts(page)
    styles = [Markup(asset(name)) for name in page.styles]  # noqa: S704
    return (
        environment()
        .get_template(page.template)
        .render(
            **page.context,
            page_title=page.title,
            page_policy=policy_of(page),
            page_styles=styles,
            page_scripts=scripts,
            page_data={name: embedded(value) for name, value in page.data.items()},
            program=f"vaprompt {vaprompt.__version__}",
        )
    )


def write_page(page: Page, target: Path) -> int:
    """Publish the page at `target`; return its size in bytes.

    Raises:
        TargetError: the file cannot be written.
    """
    # A file's name need not be Unicode: what is not is shown by its code.
    encoded = render(page).encode("utf-8", "backslashreplace")
    with published(target) as aside:
        aside.write_bytes(encoded)
    return len(encoded)


def embedded(value: Any) -> Markup:
    """Return a JSON-ready value as the content of a script block, which nothing in it can close."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  no markup is left in it


@cache
def asset(name: str) -> str:
    """Return a file of `assets/`."""
    return (ASSETS / name).read_text(encoding="utf-8").strip()


@cache
def environment() -> jinja2.Environment:
    """Return what finds templates; everything that they show is escaped, and a name that is missing is an error."""
    room = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    room.filters |= {"score": shown_score, "signed": shown_signed, "count": shown_count, "clock": shown_clock}
    room.filters["counted"] = shown_counted
    room.filters["tojson_text"] = lambda value: json.dumps(value, ensure_ascii=False)
    return room


def shown_score(value: float | None, digits: int = 3) -> str:
    """Return a number to so many decimals with a true minus; a dash where there is none."""
    return "–" if value is None else f"{value:z.{digits}f}".replace("-", "\u2212")  # noqa: RUF001


def shown_signed(value: float | None, digits: int = 3) -> str:
    """Return a difference with its sign; a dash where there is none."""
    return "–" if value is None else f"{value:+z.{digits}f}".replace("-", "\u2212")  # noqa: RUF001


def shown_count(value: int | None) -> str:
    """Return a whole number with its thousands apart; a dash where there is none."""
    return "–" if value is None else f"{value:,}"  # noqa: RUF001


def shown_counted(value: int, thing: str) -> str:
    """Return how many of a thing there are, such as 1 frame or 1,200 frames."""
    return f"{value:,} {thing}" if value == 1 else f"{value:,} {thing}s"


def shown_clock(seconds: float) -> str:
    """Return a length of time, such as 0:42 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def policy_of(page: Page) -> str:
    """Return the content security policy that the page states, for a server that states it, too."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in _scripts(page))
    own = " ".join(f"'sha256-{digest}'" for digest in digests)
    others = page.policy.get("script-src")
    scripts = own if others is None else f"{own} {others}"
    directives = {**POLICY, **page.policy, "script-src": scripts}
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def _scripts(page: Page) -> list[Markup]:
    return [Markup(_closed(asset(name))) for name in page.scripts]  # noqa: S704  ours, and not the user's


def _closed(script: str) -> str:
    if "</script" in script or "<!--" in script:
        raise ValueError("a script that holds </script or <!-- cannot stand in a page")
    return script
