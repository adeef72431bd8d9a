"""Back to the raw media: encoders and heads trained together, from a run on cached features to a run like any other."""
