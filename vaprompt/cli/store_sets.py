"""`vaprompt store merge`, `subset` and `diff`: new stores from others, and in what two differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vaprompt.cli.options import PLACES, JsonOption, StoreArgument, to_write
from vaprompt.errors import StoreError

if TYPE_CHECKING:
    from vaprompt.store.sharing.combining import Written

IntoOption = Annotated[
    Path, typer.Option("--into", parser=to_write, metavar="STORE", help="The folder to write; not there yet.")
]


def merge(
    stores: Annotated[list[str], typer.Argument(metavar="STORE", help="Two or more feature stores.")],
    into: IntoOption,
    prefer: Annotated[
        str | None, typer.Option(metavar="STORE", help="The one whose content counts where contents differ.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write one store that holds what several hold, such as parts of a data set from several machines.

    Their streams must have the same fingerprints. A video that several have alike is taken once; where contents
    differ, all such videos are named and nothing is written, unless --prefer says which store counts.

    Example: vaprompt store merge a.zarr b.zarr --into both.zarr
    """
    from vaprompt.cli.progress import progress
    from vaprompt.store.sharing.combining import merge as run_merge

    _tell(run_merge(stores, into, prefer=prefer, progress=progress()), into, as_json)


def subset(
    store: StoreArgument,
    into: IntoOption,
    split: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="train, validation or test; may be repeated.")
    ] = None,
    videos: Annotated[
        str | None, typer.Option(metavar="A,B|@FILE", help="These videos only; @FILE names one a line.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a store that holds a part of another one's videos, and all of its prompts.

    Example: vaprompt store subset affwild2.zarr --split train --into train.zarr
    """
    from vaprompt.cli.progress import progress
    from vaprompt.store.sharing.combining import subset as run_subset

    names = _names(videos)
    _tell(run_subset(store, into, splits=split or (), videos=names, progress=progress()), into, as_json)


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help=f"A feature store: {PLACES}.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    as_json: JsonOption = False,
) -> None:
    """Say in what two stores differ: data set, fingerprints, videos, their content by stream, prompts.

    Contents are compared by their digests, so no feature is read. The exit code is 0 where they are equal, else 3.

    Example: vaprompt store diff a.zarr b.zarr
    """
    from vaprompt.cli.output import print_json, print_lines
    from vaprompt.store.sharing.comparing import compare

    found = compare(a, b)
    if as_json:
        print_json(found)
    else:
        print_lines(_difference_lines(found))
    raise typer.Exit(0 if found["equal"] else 3)


def _names(videos: str | None) -> list[str]:
    """Return the videos that an option names; none where it is not given."""
    if videos is None:
        return []
    if not videos.startswith("@"):
        names = videos.split(",")
    else:
        try:
            names = Path(videos[1:]).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            remedy = "give a text file with a video's name on each line"
            raise StoreError(videos[1:], fault=f"cannot be read ({error})", remedy=remedy) from None
    found = [name.strip() for name in names if name.strip()]
    if not found:
        raise StoreError(None, fault=f"--videos '{videos}' names no video", remedy="give names, or leave it out")
    return found


def _tell(written: Written, into: Path, as_json: bool) -> None:
    from vaprompt.cli.output import print_json, print_lines

    if as_json:
        print_json({"store": into} | vars(written))
        return
    lines = [f"written: {into}, {len(written.videos)} videos, {written.prompts} prompts"]
    if written.shared:
        lines.append(f"{written.shared} streams of videos were there more than once, alike")
    if written.incomplete:
        lines.append(f"lacking a stream, so that training does not see them: {', '.join(written.incomplete)}")
    print_lines(lines)


def _difference_lines(found: Mapping[str, Any]) -> Iterator[str]:
    if found["equal"]:
        yield "equal"
    yield from _fields("data set", found["dataset"])
    yield from _sides("stream", found["streams"])
    for stream, fields in found["fingerprints"].items():
        yield from _fields(stream, fields)
    yield from _sides("video", found["videos"])
    yield from (f"{one['stream']} of {one['video']}: {', '.join(one['differs'])}" for one in found["content"])
    yield from _prompt_lines("", found["prompts"])
    for name, prompts in found["named_prompts"].items():
        yield from _prompt_lines(f" under {name}", prompts)


def _prompt_lines(under: str, found: Mapping[str, Any]) -> Iterator[str]:
    yield from _fields(f"prompts{under}", found["fingerprint"])
    yield from _sides(f"prompt{under}", found)
    yield from (f"prompt{under} differs: {prompt}" for prompt in found["differ"])


def _fields(what: str, fields: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{what}: {key}: {a} in a, {b} in b" for key, (a, b) in fields.items())


def _sides(what: str, found: Mapping[str, Any]) -> Iterator[str]:
    for side in ("a", "b"):
        yield from (f"{what} only in {side}: {name}" for name in found[f"only_{side}"])
