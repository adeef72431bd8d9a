"""`vaprompt finetune`: from a run on cached features back to the raw media, its encoders trained as well."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vaprompt.cli.options import DeviceOption, JsonOption, SetOption, to_make


def finetune(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run to start from: its weights, recipe, encoders.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The data set that its store was made of.")],
    new: Annotated[Path, typer.Option("--run", parser=to_make, metavar="NEW", help="Folder for the new run.")],
    recipe: Annotated[
        Path | None, typer.Argument(metavar="RECIPE", help="A recipe; default: train/finetune.toml.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(metavar="STORE", help="The run's store, where it is now: a folder or a URL.")
    ] = None,
    stream: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name for features from the tuned encoders; default: NEW's."),
    ] = None,
    changes: SetOption = None,
    seed: Annotated[int | None, typer.Option(metavar="K", min=0, help="In place of the recipe's seed.")] = None,
    device: DeviceOption = "auto",
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=256, help="Loading processes; default: cores that are left."),
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(
            parser=to_make, metavar="DIR", help="Keep decoded media here, for other fine-tunings too; default: in NEW."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with one that was stopped; ends with the same weights.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train encoders and heads together on raw pictures and sound, from where RUN ended.

    NEW is then a run like any other, with encoders of its own: predict uses them, and extract --encoders NEW makes
    the features that evaluate and submit need. The same command goes on after a stop.

    Example: vaprompt finetune runs/first /data/Aff-Wild2 --run runs/tuned --set image.tune=last
    """
    from vaprompt.cli.output import print_json, print_lines
    from vaprompt.cli.progress import progress
    from vaprompt.cli.tell import training_lines
    from vaprompt.finetuning.finetune import finetune as run_finetuning
    from vaprompt.finetuning.recipe import FinetuneRecipe
    from vaprompt.recipes import read_recipe, shipped
    from vaprompt.training.run import summary
    from vaprompt.training.runs import read_facts

    seeded = [*(changes or ()), *([] if seed is None else [f"seed={seed}"])]
    wanted = read_recipe(FinetuneRecipe, recipe or shipped("train", "finetune"), seeded)
    result = run_finetuning(
        run,
        data,
        wanted,
        new,
        store=store,
        stream=stream,
        device=device,
        workers=workers,
        scratch=scratch,
        resume=resume,
        progress=progress(),
    )
    if as_json:
        print_json(summary(result))
        return
    print_lines(training_lines(result))
    if not read_facts(new)["encoders"]:
        print_lines([f"next: vaprompt evaluate {new}"])
        return
    known = store or str(read_facts(run)["store"]["path"])
    at = known if "://" in known or Path(known).exists() else "STORE"
    print_lines([f"next: vaprompt extract {data} --encoders {new} --store {at}, then vaprompt evaluate {new}"])
