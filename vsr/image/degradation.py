"""The degradation of a shot, as networks are told of it.

Camera noise is none of it: fusion along the motion takes it away and keeps more detail.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownDegradation:
    """Degradation that networks can undo; the default is a clean shot's."""

    quantizer: float = 0.0
    """Mean quantizer on H.264's scale; 0 where none is known, or none that shows."""

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to undo."""
        return self == CLEAN_SHOT

    def summary(self) -> str:
        """Tell it in a few words."""
        return f"quantizer {self.quantizer:.0f}" if self.quantizer else "clean"


CLEAN_SHOT = KnownDegradation()
