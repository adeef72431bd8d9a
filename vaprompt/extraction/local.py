"""The engine on this machine, with its encoders. Apart from the pipeline, as torch takes seconds to import."""

from __future__ import annotations

from vaprompt.devices import pick_devices
from vaprompt.encoders.registry import audio_encoder, image_encoder
from vaprompt.extraction.engine import LocalEngine
from vaprompt.extraction.loaded import Encoders
from vaprompt.extraction.stages import RunLog
from vaprompt.extraction.work import Work
from vaprompt.store.feature_store import FeatureStore


def local_engine(work: Work, store: FeatureStore, log: RunLog, of_cores: int | None = None) -> LocalEngine:
    """Return the engine on this machine's devices; nothing is loaded yet.

    Decoding uses no more cores than `of_cores`; None: all that this process has.

    Raises:
        DeviceError: a device was asked for that is not there.
    """
    devices = pick_devices(work.device) if isinstance(work.device, str) else list(work.device)
    encoders = Encoders(
        work.recipe,
        devices,
        lambda device: image_encoder(work.recipe.image, device),
        lambda device: audio_encoder(work.recipe.audio, device),
        log,
    )
    return LocalEngine(work.dataset, work.recipe, store, work.fingerprints, encoders, log, of_cores)
