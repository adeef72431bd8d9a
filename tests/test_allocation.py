"""Freed memory is kept, where the C library is glibc."""

import platform
import resource
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, resource, sys
from vaprompt.allocation import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.memset.argtypes, libc.free.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t], [ctypes.c_void_p]


def batch():
    pieces = [libc.malloc(20 * 2**20) for _ in range(4)]
    for piece in pieces:
        libc.memset(piece, 1, 20 * 2**20)
    for piece in pieces:
        libc.free(piece)


batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    batch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Return how many pages the system handed out for the same 80 MiB, taken and freed 20 times."""
    found = subprocess.run([sys.executable, "-c", SCRIPT, how], check=True, capture_output=True, text=True)
    return int(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_is_freed_is_not_handed_out_anew_page_by_page():
    pages = 20 * 80 * 2**20 // resource.getpagesize()
    assert faults("kept") < pages / 8
    assert faults("given back") > pages / 2
