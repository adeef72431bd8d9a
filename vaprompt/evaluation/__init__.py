"""Scores as the challenge and the paper compute them, with a baseline beside them."""
