"""The page that the server shows, and what it may do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vaprompt.report.pages.page import CHART_SCRIPTS, CHART_STYLES, Page, policy_of, render
from vaprompt.serving.kinds import suffixes
from vaprompt.serving.limits import Limits

RECORDER = "recorder.js"


def front_page(facts: Mapping[str, Any], limits: Limits, host: str, *, kept: bool) -> tuple[str, str]:
    """Return the page as HTML, and its content security policy.

    Args:
        facts: what the engine says of the run.
        limits: what is taken at most.
        host: as the browser asked for it, and the gate let it pass.
        kept: whether videos and results stay when the server ends.
    """
    taken = suffixes(sound=limits.sound)
    page = Page(
        "serve.html",
        f"{facts['run']}: vaprompt",
        context={"facts": facts, "limits": limits, "suffixes": taken, "kept": kept},
        data={
            "serve": {
                "run": facts,
                "bytes": limits.bytes,
                "suffixes": taken.split(","),
            }
        },
        scripts=(*CHART_SCRIPTS, "moving.js", "serve.js", "live.js"),
        styles=(*CHART_STYLES, "run.css", "prediction.css", "serve.css"),
        policy={
            # The page talks to this very server, and to nobody else.
            "connect-src": f"'self' ws://{host} wss://{host}",
            # Sound is handed out by a script of its own, which a browser takes from an address alone.
            "script-src": f"http://{host}/{RECORDER} https://{host}/{RECORDER}",
        },
    )
    return render(page), f"{policy_of(page)}; frame-ancestors 'none'"
