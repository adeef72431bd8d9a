"""Tests of reading video, sound and pictures."""
