"""What all tests of the store share."""

import os

import pytest


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Do not wait for the disk: a test of its own says what is synced and when."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
