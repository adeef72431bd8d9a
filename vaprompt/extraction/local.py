"""The engine on this machine, with its encoders. Apart from the pipeline, as torch takes seconds to import."""

from __future__ import annotations

from vaprompt.devices import emulation, pick_devices
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.extraction.engine import LocalEngine
from vaprompt.extraction.loaded import Encoders
from vaprompt.extraction.stages import RunLog
from vaprompt.extraction.work import Work
from vaprompt.progress import SILENT, Progress
from vaprompt.store.feature_store import FeatureStore


def local_engine(
    work: Work, store: FeatureStore, log: RunLog, of_cores: int | None = None, progress: Progress = SILENT
) -> LocalEngine:
    """Return the engine on this machine's devices; nothing is loaded yet.

    Args:
        work: what is to be done.
        store: where to.
        log: keeps what is measured.
        of_cores: cores that decoding may use; None: all that this process has.
        progress: told of number formats in which the devices are slow.

    Raises:
        DeviceError: a device was asked for that is not there.
    """
    devices = pick_devices(work.device) if isinstance(work.device, str) else list(work.device)
    for stream, recipe in (("image", work.recipe.image), ("audio", work.recipe.audio)):
        if warning := emulation(recipe.precision, devices[0]):
            progress.say(f"{stream}.precision: {warning}")
    encoders = Encoders(
        work.recipe,
        devices,
        lambda device: image_encoder(work.recipe.image, device),
        lambda device: audio_encoder(work.recipe.audio, device),
        log,
    )
    return LocalEngine(work.dataset, work.recipe, store, work.fingerprints, encoders, log, of_cores)
