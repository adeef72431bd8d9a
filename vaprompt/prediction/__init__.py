"""Valence and arousal for any video file, from a run alone."""
