"""A loading process: reads requests from its standard input, writes answers to a pipe, and ends when either is closed.

    python -m vaprompt.finetuning.worker DESCRIPTOR

It computes with one thread, so that as many of them as there are cores keep those busy and none waits for another.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from typing import BinaryIO

import numpy as np
import torch

from vaprompt.errors import VapromptError
from vaprompt.finetuning.loading import load
from vaprompt.finetuning.requests import Answer, Asked, Load, Setup, as_bytes
from vaprompt.finetuning.scratch import prepare


def serve(lines: Iterable[bytes], out: BinaryIO) -> None:
    """Answer requests, a line of JSON each; the first line is the setup."""
    requests = iter(lines)
    setup = Setup.model_validate_json(next(requests))
    for line in requests:
        answer, arrays = _answered(line, setup)
        out.write(answer.model_dump_json().encode() + b"\n")
        for array in arrays:
            out.write(as_bytes(array))
        out.flush()


def _answered(line: bytes, setup: Setup) -> tuple[Answer, list[np.ndarray]]:
    try:
        request = Asked.model_validate_json(b'{"request": ' + line + b"}").request
        if not isinstance(request, Load):
            prepare(request, setup)
            return Answer(), []
        window = load(request, setup)
        arrays = [array for array in (window.image_TSSC, window.mel_FM) if array is not None]
        return Answer(shapes=tuple(array.shape for array in arrays)), [np.ascontiguousarray(a) for a in arrays]
    except VapromptError as error:
        told = (type(error).__name__, str(error.where or ""), error.fault, error.remedy)
        # What is no text in a file's name is no text in JSON either.
        return Answer(error=tuple(text.encode(errors="backslashreplace").decode() for text in told)), []
    except Exception:
        return Answer(bug=traceback.format_exc()), []


def main() -> None:
    """Serve whoever started this process."""
    torch.set_num_threads(1)
    # A pipe or a standard input that is closed: nobody waits any more.
    with suppress(BrokenPipeError, StopIteration), os.fdopen(int(sys.argv[1]), "wb") as out:
        serve(sys.stdin.buffer, out)


if __name__ == "__main__":
    main()
