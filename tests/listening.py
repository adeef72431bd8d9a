"""Progress that keeps what it is told, for tests of what commands say."""

from vaprompt.progress import Silent
from vaprompt.sweeps.board import Nobody


class Listening(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        """Begin with nothing heard."""
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Keep a line."""
        self.said.append(text)


class Watching(Nobody):
    """Keeps what is said of a sweep."""

    def __init__(self) -> None:
        """Begin with nothing heard."""
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Keep a line."""
        self.said.append(text)
