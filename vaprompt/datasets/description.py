"""A data set's description: the small TOML file in `data/` that says where it lies and how to read it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vaprompt.datasets.affwild2 import read_affwild2, recognises
from vaprompt.datasets.base import MODALITIES, Dataset, Modality, Rates
from vaprompt.datasets.splits import SplitRecipe
from vaprompt.datasets.synthetic.recipe import SyntheticRecipe
from vaprompt.datasets.tables import TableRecipe
from vaprompt.datasets.tabular import read_tabular
from vaprompt.errors import DatasetError, RecipeError
from vaprompt.progress import SILENT, Progress
from vaprompt.recipes import Recipe, read_recipe


class DatasetRecipe(Recipe):
    """Where a data set lies and how it is read."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    """Recorded in every store that is made from it."""
    layout: Literal["affwild2", "csv", "csv-per-video"] = "affwild2"
    """How the folders are arranged; data/README.md describes each layout exactly."""
    root: str = Field(min_length=1)
    """The folder it lies in; relative to the folder of the description, `~` is the home folder."""
    faces: Literal["auto", "crops", "frames", "detect"] = "auto"
    """Read face crops or whole video frames, `auto`: crops where there are any; `detect`: find faces in the frames."""
    exclude: list[str] = Field(default_factory=list)
    """Names of videos to leave out."""
    modalities: list[Modality] = Field(["image", "audio"], min_length=1)
    """What is taken of it: `["image"]` leaves the sound out, `["audio"]` the pictures: files of sound will then do."""
    rate: float | None = Field(None, gt=0, le=240)
    """Rows a second of labels and predictions where no video tells them: of sound alone, and of crops alone."""
    rates: dict[str, Annotated[float, Field(gt=0, le=240)]] = Field(default_factory=dict)
    """The same of single videos, by name."""
    crops: str | None = None
    """Layouts csv and csv-per-video: folder of face crops below `root`, with one folder a video in it."""
    labels: TableRecipe | None = None
    """Layouts csv and csv-per-video: where the labels are and how they are read."""
    splits: SplitRecipe | None = None
    """Layouts csv and csv-per-video: the splits, where no column of the table says them."""
    synthetic: SyntheticRecipe | None = None
    """When given, the data set is generated at `root` before it is read, unless it is there already."""

    @property
    def files(self) -> Literal["auto", "crops", "frames"]:
        """Which files are needed: faces that are yet to be found lie in whole frames."""
        return "frames" if self.faces == "detect" else self.faces

    @property
    def taken(self) -> tuple[Modality, ...]:
        """The modalities, in everybody's order."""
        return tuple(modality for modality in MODALITIES if modality in self.modalities)

    @property
    def known_rates(self) -> Rates:
        """Both keys that say rates."""
        return Rates(self.rate, self.rates)


def open_dataset(source: Path, progress: Progress = SILENT) -> Dataset:
    """Return the data set in a folder (its layout is recognised) or that a `.toml` description names.

    Raises:
        DatasetError: the folder is missing, in no known layout, incomplete, or an excluded video is not in it.
        RecipeError: the description is faulty.
    """
    if source.suffix == ".toml":
        return _described(source, progress)
    if source.is_file():
        raise DatasetError(
            source,
            fault="is neither a folder nor a .toml description",
            remedy="give a data set's folder, or data/NAME.toml",
        )
    if not recognises(source):
        raise DatasetError(
            source,
            fault="is in no layout that is known (affwild2)",
            remedy="give the folder that holds annotations and videos, or for videos with a table of labels a "
            "description such as data/csv-example.toml; data/README.md shows both",
        )
    return read_affwild2(source, faces="auto")


def _described(source: Path, progress: Progress) -> Dataset:
    recipe = read_recipe(DatasetRecipe, source)
    if recipe.faces != "auto" and "image" not in recipe.modalities:
        fault = f"faces = '{recipe.faces}' says nothing where modalities leave pictures out"
        raise RecipeError(source, fault=fault, remedy="remove it, or add 'image' to modalities")
    if recipe.known_rates.described and (recipe.taken == MODALITIES or recipe.faces in ("frames", "detect")):
        # A store would be refused to whoever adds or corrects one, though nothing depends on it.
        fault = "a rate says nothing where videos tell the times of their frames"
        raise RecipeError(source, fault=fault, remedy="remove it, or set modalities = ['audio'], or ['image'] of crops")
    # An absolute or ~ path replaces the folder of the description; a relative one starts there.
    root = source.parent / Path(recipe.root).expanduser()
    if recipe.synthetic is not None:
        # Here, since it brings what draws and encodes, which no other data set needs.
        from vaprompt.datasets.synthetic.writer import write_synthetic

        write_synthetic(root, recipe.synthetic, progress)
    elif not root.is_dir():
        raise RecipeError(
            source, fault=f"its root {root} is not a folder", remedy="set `root` to where the data set lies"
        )
    dataset = _read(recipe, root, source)
    _require_known(recipe.rates, dataset, source, "gives a rate of")
    dataset = _without(dataset, recipe.exclude, source)
    return replace(dataset, faces="detect") if recipe.faces == "detect" else dataset


def _read(recipe: DatasetRecipe, root: Path, source: Path) -> Dataset:
    if recipe.layout == "affwild2":
        given = [key for key in ("crops", "labels", "splits") if getattr(recipe, key) is not None]
        if given:
            fault = f"{given[0]} says nothing in the layout affwild2"
            raise RecipeError(source, fault=fault, remedy="remove it, or set layout = 'csv' or 'csv-per-video'")
        return read_affwild2(
            root, faces=recipe.files, name=recipe.name, modalities=recipe.taken, rates=recipe.known_rates
        )
    if recipe.labels is None:
        fault = f"layout {recipe.layout} needs to know where the labels are"
        raise RecipeError(source, fault=fault, remedy="add [labels] with path = 'labels.csv'")
    return read_tabular(
        root,
        source=source,
        name=recipe.name,
        layout=recipe.layout,
        faces=recipe.files,
        labels=recipe.labels,
        splits=recipe.splits,
        crops=recipe.crops,
        modalities=recipe.taken,
        rates=recipe.known_rates,
    )


def _require_known(asked: Iterable[str], dataset: Dataset, source: Path, what: str) -> None:
    names = [video.name for video in dataset.videos]
    for name in asked:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)
            raise DatasetError(
                source, fault=f"{what} '{name}', which is no video of it", remedy=f"nearest is '{near[0]}'"
            )


def _without(dataset: Dataset, exclude: list[str], source: Path) -> Dataset:
    _require_known(exclude, dataset, source, "excludes")
    return replace(
        dataset,
        videos=tuple(video for video in dataset.videos if video.name not in exclude),
        problems=tuple(problem for problem in dataset.problems if problem.video not in exclude),
        excluded=tuple(exclude),
    )
