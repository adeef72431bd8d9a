"""How the check of a data set reads for a person. Apart from `tell`, whose imports take seconds."""

from __future__ import annotations

from itertools import groupby

from vaprompt.cli.output import print_lines, print_table
from vaprompt.datasets.check import Check, SplitCheck

MOST = 20
"""So many problems of a kind are shown; --json lists all."""


def print_check(found: Check) -> None:
    """Print counts beside the edition's, then the problems by kind, then what will be left out."""
    edition = "" if found.edition is None else f", edition {found.edition}"
    seen = f"faces from {found.faces}" if "image" in found.modalities else "no pictures"
    heard = "" if "audio" in found.modalities else ", no sound"
    print_lines([f"{found.name}: layout {found.layout}{edition}, {seen}{heard}"])
    rows: list[tuple[object, ...]] = []
    for split, counts in found.splits.items():
        rows.append((split, "here", counts.videos, counts.sides, counts.frames, counts.invalid))
        if counts.expected is not None:
            official = counts.expected
            rows.append((split, "official", official.videos, official.sides, official.frames, official.invalid))
    print_table(("split", "", "videos", "_left/_right", "frames", "not valid"), rows)
    columns = ("split", "crops", "missing", "share", "with sound", "without")
    print_table(columns, [(split, *_media(counts)) for split, counts in found.splits.items()])
    rates = ", ".join(f"{rate} ({count})" for rate, count in _rates(found).items())
    print_lines([f"frames a second (videos): {rates}"] if rates else [])
    problems = sorted(found.problems, key=lambda problem: problem.kind)
    for kind, group in groupby(problems, key=lambda problem: problem.kind):
        listed = list(group)
        print_lines([f"{kind}: {len(listed)}"])
        for problem in listed[:MOST]:
            print_lines([f"  {problem.video}{': ' if problem.video else ''}{problem.detail}"])
        print_lines([f"  ... and {len(listed) - MOST} more (--json lists all)"] if len(listed) > MOST else [])
    how = "decoded" if found.deep else "by names and headers; --deep decodes"
    print_lines([f"{found.ready} videos can be extracted ({how})"])
    if found.left_out:
        print_lines([f"left out: {len(found.left_out)}", *(f"  {name}" for name in found.left_out)])


def _media(counts: SplitCheck) -> tuple[object, ...]:
    pictures = counts.crops + counts.missing_crops
    share = f"{counts.missing_crops / pictures:.1%}" if pictures else "-"
    shown = (counts.crops, counts.missing_crops) if pictures else (None, None)
    return (*shown, share, counts.sound, counts.silent)


def _rates(found: Check) -> dict[str, int]:
    total: dict[str, int] = {}
    for counts in found.splits.values():
        for rate, videos in counts.rates.items():
            total[rate] = total.get(rate, 0) + videos
    return dict(sorted(total.items(), key=lambda item: float(item[0])))
