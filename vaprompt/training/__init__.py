"""Stage 2: heads trained on cached features that lie in memory."""
