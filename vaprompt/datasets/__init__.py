"""Data sets: Aff-Wild2's layout, descriptions in TOML, and the synthetic generator."""
