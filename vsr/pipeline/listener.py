"""Who hears of a run while it goes on."""

from collections.abc import Callable
from dataclasses import dataclass


def _ignore(*_: object) -> None:
    """What is said to nobody."""


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Listener:
    """Who hears of a run while it goes on."""

    say: Callable[[str], None] = _ignore
    """A sentence for the user."""
    advance: Callable[[int, int | None], None] = _ignore
    """Frames done, and how many there should be where the header says."""
    is_stopping: Callable[[], bool] = _never
    """Whether the run is to end after the frame in hand, with its work kept."""
