"""The engines on this machine, with their encoders. Apart from the pipeline, as torch takes seconds to import."""

from __future__ import annotations

from collections.abc import Sequence

from vaprompt.devices import emulation, pick_devices
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.extraction.engine import LocalEngine
from vaprompt.extraction.loaded import Encoders
from vaprompt.extraction.stages import RunLog
from vaprompt.extraction.work import Engine, Work
from vaprompt.progress import Progress
from vaprompt.store.feature_store import FeatureStore


def engine_here(work: Work, store: FeatureStore, log: RunLog, progress: Progress) -> Engine:
    """Return the engine for this machine's devices; nothing is loaded yet.

    Args:
        work: what is to be done.
        store: where to.
        log: keeps what is measured.
        progress: told of number formats in which the devices are slow, and of processes that are lost.

    Raises:
        DeviceError: a device was asked for that is not there.
    """
    devices = _devices(work)
    for stream, recipe in (("image", work.recipe.image), ("audio", work.recipe.audio)):
        if warning := emulation(recipe.precision, devices[0]):
            progress.say(f"{stream}.precision: {warning}")
    if not process_each(devices):
        return local_engine(work, store, log)
    from vaprompt.extraction.device_engine import DeviceEngine  # which needs this module

    return DeviceEngine(work, store, log, devices, progress)


def process_each(devices: Sequence[str]) -> bool:
    """Say whether each device is to have a process of its own: several accelerators do."""
    return len(devices) > 1 and not devices[0].startswith("cpu")


def local_engine(work: Work, store: FeatureStore, log: RunLog, of_cores: int | None = None) -> LocalEngine:
    """Return the engine in this process, whatever the number of devices; nothing is loaded yet.

    Args:
        work: what is to be done.
        store: where to.
        log: keeps what is measured.
        of_cores: cores that decoding may use; None: all that this process has.

    Raises:
        DeviceError: a device was asked for that is not there.
    """
    encoders = Encoders(
        work.recipe,
        _devices(work),
        lambda device: image_encoder(work.recipe.image, device),
        lambda device: audio_encoder(work.recipe.audio, device),
        log,
    )
    return LocalEngine(work.dataset, work.recipe, store, work.fingerprints, encoders, log, of_cores)


def _devices(work: Work) -> list[str]:
    return pick_devices(work.device) if isinstance(work.device, str) else list(work.device)
