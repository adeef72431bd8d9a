"""`vaprompt store push` and `pull`: a store to where others read it, and from there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vaprompt.cli.options import JsonOption, StoreArgument, to_write

if TYPE_CHECKING:
    from vaprompt.store.transfer import Transfer


def push(
    store: StoreArgument,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to, such as s3://bucket/affwild2.zarr.")],
    as_json: JsonOption = False,
) -> None:
    """Bring a local store to a bucket: only what differs, each video's marker after its files, the index last.

    What is stopped goes on with the same command. Another data set, or features made otherwise, are not overwritten.

    Example: vaprompt store push affwild2.zarr s3://bucket/affwild2.zarr
    """
    from vaprompt.cli.progress import progress
    from vaprompt.store.push import push as run_push
    from vaprompt.store.urls import shown

    _tell(run_push(store, url, progress=progress()), shown(url), as_json=as_json)


def pull(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where from, such as https://example.org/affwild2.zarr.")],
    store: Annotated[Path, typer.Argument(parser=to_write, metavar="STORE", help="The folder to make or to complete.")],
    as_json: JsonOption = False,
) -> None:
    """Bring a store into a folder: only what differs, every file compared with its digest on arrival.

    What is stopped leaves a store that is not taken for whole, and goes on with the same command. train, evaluate and
    the others take the URL itself, too, and keep a copy of their own (docs/sharing.md).

    Example: vaprompt store pull s3://bucket/affwild2.zarr affwild2.zarr
    """
    from vaprompt.cli.progress import progress
    from vaprompt.store.pull import pull as run_pull

    _tell(run_pull(url, store, progress=progress()), str(store), as_json=as_json)


def _tell(done: Transfer, place: str, *, as_json: bool) -> None:
    from vaprompt.cli.output import print_json, print_lines, size

    if as_json:
        print_json({"store": place, **vars(done)})
        return
    rate = f", {size(done.bytes / done.seconds)}/s" if done.bytes else ""
    print_lines(
        [
            f"brought over: {done.files} files, {size(done.bytes)} in {done.seconds:.1f} s{rate}",
            f"streams of videos and other groups: {done.groups} brought over, {done.same} there already",
            f"store: {place}",
        ]
    )
