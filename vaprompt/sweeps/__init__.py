"""Many trainings on one store: a grid, a list or a search of variants, side by side, gone on with when stopped."""
