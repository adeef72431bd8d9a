"""How a sweep's result reads in a terminal. Apart from the command, as the types named here take seconds to import."""

from __future__ import annotations

from textwrap import wrap

from vaprompt.cli.output import WIDTH, print_lines, print_table, score
from vaprompt.cli.progress import duration
from vaprompt.evaluation.several import Spread
from vaprompt.sweeps.results import Found
from vaprompt.sweeps.sweep import SweepResult
from vaprompt.sweeps.tables import AXES, COLUMNS, TITLES, TableRow, table_rows

NO_MATCH = (
    "The paper's numbers are CCC on Aff-Wild2's validation set, over the frames that its released evaluation scores "
    "(paper_subset); official is over every valid frame. Numbers on another data set do not compare with them."
)


def print_sweep(result: SweepResult) -> None:
    """Print what became of each variant, the paper's table where the sweep is one, and how long it took."""
    rows = [
        (one.variant.label, *_scores(one), "-" if one.epochs is None else one.epochs, _took(one))
        for one in result.found
    ]
    scored = any(one.scores is not None for one in result.found)
    title = "CCC over every valid frame" if scored else "CCC at the validation windows' ends"
    print_table(("variant", "valence", "arousal", "mean", "epochs", "time"), rows, title=title)
    print_lines(f"{one.variant.label}: {one.reason}" for one in result.failed)
    if result.sweep.search is not None and result.found and result.found[0].state == "done":
        best = result.found[0]
        fields = ", ".join(f"{key} = {_value(value)}" for key, value in best.fields.items())
        print_lines(wrap(f"best by the validation CCC: {best.variant.label}, {fields or 'which is the base'}", WIDTH))
    if scored:
        print_paper_table(table_rows(result.sweep, result.found))
    workers = "" if result.workers == 1 else f" by {result.workers} workers"
    before = sum(one.state in ("done", "pruned") and one.seconds is None for one in result.found)
    print_lines(
        [
            f"{result.trained} variants trained{workers} in {duration(result.seconds)}"
            + (f", {before} were there before" if before else "")
            + (f", {len(result.failed)} failed" if result.failed else "")
        ]
    )


def print_paper_table(rows: list[TableRow]) -> None:
    """Print a table of the paper's in its own form, with ours behind; nothing without rows."""
    if not rows:
        return
    number = rows[0].paper.table
    for protocol, who in (("paper_subset", "ours, paper_subset"), ("official", "ours, official")):
        lines = [
            (
                *row.what,
                *(f"{getattr(row.paper, axis):.4f}" for axis in AXES),
                *(shown_spread(row.ours[protocol][axis]) for axis in AXES),
            )
            for row in rows
        ]
        columns = (*COLUMNS[number], "V", "A", "mean", "our V", "our A", "our mean")
        print_table(columns, lines, title=f"{TITLES[number]}; the paper's CCC, and {who}")
    print_lines(wrap(NO_MATCH, WIDTH))


def shown_spread(found: Spread) -> str:
    """Return a mean, with its deviation over seeds if there are several; four decimals, as the paper has them."""
    if found["mean"] is None:
        return "-"
    deviation = found["deviation"]
    return f"{found['mean']:z.4f}" if deviation is None else f"{found['mean']:z.3f}±{deviation:.3f}"


def _scores(one: Found) -> tuple[str, ...]:
    scores = one.best if one.scores is None else one.scores["official"]
    return ("-",) * 3 if scores is None else tuple(score(scores[axis]) for axis in AXES)


def _took(one: Found) -> str:
    if one.state in ("failed", "pruned", "training"):
        return {"failed": "failed", "pruned": "stopped early", "training": "elsewhere"}[one.state]
    return "before" if one.seconds is None else duration(one.seconds)


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
