"""From a prediction to the page that shows it: what else is to be known of its video is looked up and listened to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vaprompt.errors import MediaError
from vaprompt.media.appearance import appearance
from vaprompt.media.audio import sound_start
from vaprompt.media.clock import has_picture
from vaprompt.media.crops import is_folder
from vaprompt.media.loudness import measure_loudness
from vaprompt.prediction.predict import PredictedVideo, PredictionReport
from vaprompt.progress import SILENT, Progress
from vaprompt.regions import RegionRecipe
from vaprompt.report.footage import MOST_EMBEDDED, Footage, address, beside, fits, inside
from vaprompt.report.pages.page import write_page
from vaprompt.report.prediction_page import Download, Screening, prediction_page

TOO_LARGE = f"the file is larger than {MOST_EMBEDDED // 1_000_000} MB and is not put into the page"


@dataclass(frozen=True)
class ShownVideo:
    """A page that was written."""

    path: Path
    bytes: int
    notes: list[str] = field(default_factory=list)


def require_pages(media: Sequence[Path]) -> None:
    """Refuse, before anything is predicted, what no page can play.

    Raises:
        MediaError: one of them is a folder, such as one of face crops.
    """
    for file in media:
        if is_folder(file):
            fault = "is a folder, and a page plays a video or sound"
            raise MediaError(
                file, fault=fault, remedy="leave the page out; the picture beside the CSV shows the traces"
            )


def write_pages(
    report: PredictionReport, *, about: Mapping[str, str], embed: bool = False, progress: Progress = SILENT
) -> dict[Path, ShownVideo]:
    """Write a page beside the CSVs of each video that was predicted, `<name>.html`; return them by media file.

    A video that cannot be read any more is recorded among the report's failed ones.

    Args:
        report: what was predicted.
        about: what the page says of it, as name and text.
        embed: put the video into the page, if it is small enough; by default the page looks for it where it is now.
        progress: who is told how far it is.

    Raises:
        TargetError: a page cannot be written.
    """
    shown: dict[Path, ShownVideo] = {}
    by_media = people_of(report)
    with progress.task("writing pages", total=len(by_media), unit="pages") as task:
        for media, people in by_media.items():
            target = people[0].csv.parent / f"{media.stem}.html"
            try:
                held = embed and fits(media)
                footage = inside(media) if held else beside(media, target)
                downloads = [Download(video.csv.name, address(video.csv, target)) for video in people]
                screening = screen(people, report.regions, footage, about=about, downloads=downloads)
            except MediaError as error:
                report.failed[str(media)] = str(error)
                progress.say(str(error))
            else:
                size = write_page(prediction_page(screening), target)
                shown[media] = ShownVideo(target, size, [TOO_LARGE] if embed and not held else [])
            task.advance(1, media.name)
    return shown


def screen(
    people: Sequence[PredictedVideo],
    regions: RegionRecipe,
    footage: Footage,
    *,
    about: Mapping[str, str],
    downloads: Sequence[Download] = (),
    name: str = "",
) -> Screening:
    """Return what a page shows of one video: `prediction_page` makes it, `render` or `write_page` the HTML.

    Args:
        people: the predictions of one video, at least one.
        regions: the run's.
        footage: where the page finds the video, or the sound.
        about: what the page says of it, as name and text.
        downloads: files that the page offers.
        name: what to call the video; by default its file's name.

    Raises:
        MediaError: the file cannot be decoded.
    """
    media = people[0].media
    loudness = measure_loudness(media, last=float(people[0].time_F[-1]))
    look = appearance(media) if has_picture(media) else None
    start = sound_start(media) if look is None else look.start
    return Screening(people, regions, footage, look, loudness, about, downloads, name, start)


def people_of(report: PredictionReport) -> dict[Path, list[PredictedVideo]]:
    """Return the predictions of each media file, in the order in which they were made."""
    by_media: dict[Path, list[PredictedVideo]] = {}
    for video in report.done:
        by_media.setdefault(video.media, []).append(video)
    return by_media
