"""The degradation of a shot, as networks are told of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownDegradation:
    """Degradation that networks can undo; the default is a clean shot's."""

    quantizer: float = 0.0
    """Mean quantizer on H.264's scale; 0 where none is known, or none that shows."""
    noise: float = 0.0
    """Standard deviation of the noise of luma, in gray levels; 0 where there is too little to
    count."""

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to undo."""
        return self == CLEAN_SHOT

    def summary(self) -> str:
        """Tell it in a few words."""
        told = []
        if self.quantizer:
            told.append(f"quantizer {self.quantizer:.0f}")
        if self.noise:
            told.append(f"noise of {self.noise:.1f} levels of luma")
        return ", ".join(told) or "clean"


CLEAN_SHOT = KnownDegradation()
