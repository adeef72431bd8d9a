"""Submission templates made for tests."""

HEADER = "image_location,valence,arousal"


def write_template(path, rows):
    """Write a template with a row for each (video, frame), and return its path."""
    path.write_text("\n".join([HEADER, *(f"{video}/{frame:05d}.jpg,0,0" for video, frame in rows)]) + "\n")
    return path
