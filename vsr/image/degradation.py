"""The degradation of a shot, as shot models are told of it.

Camera noise is none of it: fusion along the motion takes it away and keeps more detail.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class GaussianBlur:
    """A Gaussian blur, in pixels of the frame."""

    wide_px: float
    """Standard deviation along its longer axis."""
    narrow_px: float
    """Standard deviation along its shorter axis."""
    degrees: float
    """Direction of the longer axis, counter-clockwise from the right."""

    def summary(self) -> str:
        """Tell it in a few words."""
        return f"blur of {self.wide_px:.2f} x {self.narrow_px:.2f} px"

    def scaled(self, share: float) -> "GaussianBlur":
        """Make the widths a share of what they are."""
        return GaussianBlur(share * self.wide_px, share * self.narrow_px, self.degrees)


@dataclass(frozen=True)
class KnownDegradation:
    """Degradation that shot models undo; the default is a clean shot's."""

    quantizer: float = 0.0
    """Mean quantizer on H.264's scale; 0 where none is known, or none that shows."""
    blur: GaussianBlur | None = None
    """Blur of its frames; None where there is none to undo."""

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to undo."""
        return self == CLEAN_SHOT

    def summary(self) -> str:
        """Tell it in a few words."""
        told = [f"quantizer {self.quantizer:.0f}"] if self.quantizer else []
        if self.blur is not None:
            told.append(self.blur.summary())
        return ", ".join(told) or "clean"


CLEAN_SHOT = KnownDegradation()
