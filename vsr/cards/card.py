"""What a card says."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """One upscaler."""

    what: str
    source: str
    when: str
    how: str
    """The command that makes it ready, if any, and the option that uses it."""
    macs: Callable[[], float] | None
    """Multiplications and additions of its convolutions for each output pixel at x4; None where there are none."""
    besides: str = ""
    """Work that is no convolution."""

    @property
    def cost(self) -> str:
        """In words."""
        counted = "" if self.macs is None else in_words(self.macs())
        return ", ".join(filter(None, [counted, self.besides]))


def in_words(macs: float) -> str:
    """A number of multiply-adds, to three digits."""
    for unit, word in ((1e6, "million "), (1e3, "thousand ")):
        if macs >= unit:
            return f"{macs / unit:.3g} {word}multiply-adds"
    return f"{macs:.3g} multiply-adds"
