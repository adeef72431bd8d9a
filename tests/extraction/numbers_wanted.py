"""Something to decode that comes to all ends there are; apart, as another process imports it."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaprompt.errors import MediaError


@dataclass(frozen=True)
class Numbers:
    """Wanted: numbers, some of which never come."""

    media: Path
    count: int
    then: str = "end"

    def stretches(self):
        for number in range(self.count):
            yield {"number": np.array([number]), "none": np.empty((0, 3), np.float32)}
        match self.then:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "fail":
                raise MediaError(self.media, line=3, fault="is no good", remedy="get another")
            case "blunder":
                raise ZeroDivisionError("nothing over nothing")
