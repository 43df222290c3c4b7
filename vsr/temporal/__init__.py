"""What is done across the frames of a shot, after any upscaler, to keep them steady along the
motion."""

from vsr.temporal.deflicker import FlickerControl, Pair, ShotFlickerReport

__all__ = ["FlickerControl", "Pair", "ShotFlickerReport"]
