"""A prediction as a video: what its page shows, drawn beside each frame."""

from vaprompt.report.overlay.writing import MOST_PEOPLE, Overlay, require_overlay, write_overlay

__all__ = ["MOST_PEOPLE", "Overlay", "require_overlay", "write_overlay"]
