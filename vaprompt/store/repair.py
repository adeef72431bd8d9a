"""Removing what `verify` found broken, so that the next extraction makes it again; others can be writing meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vaprompt.store.faults import Fault, Verification
from vaprompt.store.feature_store import FeatureStore
from vaprompt.store.index import INDEX_FILE
from vaprompt.store.layout import GROUP_FILE, TEXT, is_name
from vaprompt.store.leases import PROMPTS, video_key
from vaprompt.store.streams import kind_of
from vaprompt.store.verification import still_broken


@dataclass(frozen=True)
class Repaired:
    """What became of faults; those in neither list were mended by somebody else meanwhile."""

    removed: list[Fault]
    """Their groups, or the index, are gone: the next extraction makes them again."""
    left: list[Fault]
    """Removing cannot mend them."""


def repair(location: Path | str, found: Verification) -> Repaired:
    """Remove what is broken, so that the next extraction makes it again.

    What was found is looked at once more before it is removed, as an extraction may have made it anew since.

    Raises:
        StoreError: the store cannot be opened, or is not in a folder.
        TargetError: it cannot be written.
    """
    if any(not fault.stream and fault.key == GROUP_FILE for fault in found.faults):
        return Repaired([], found.faults)
    store = FeatureStore.open(location)
    repaired = Repaired([], [])
    suspects: dict[str, list[Fault]] = {}
    with store.writing() as leases:
        for fault in found.faults:
            if not fault.stream and fault.key == INDEX_FILE:
                store.remove_index()
                repaired.removed.append(fault)
            elif is_name(fault.video) or (kind_of(fault.stream) == TEXT and not fault.video):
                suspects.setdefault(fault.video, []).append(fault)
            else:
                repaired.left.append(fault)
        for video, told in suspects.items():
            # Nobody else may be at it: an extraction could just be making it anew.
            with leases.holding(video_key(video) if video else PROMPTS):
                broken = still_broken(store.storage, video, {fault.stream for fault in told}, found.widths)
                for stream in sorted(broken):
                    store.remove(stream, video)
            repaired.removed.extend(fault for fault in told if fault.stream in broken)
    return repaired
