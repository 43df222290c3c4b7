"""Finding the frame of one clip that belongs to a time of another, and the part of it that belongs to a picture."""

from vsr.alignment.clocks import Clock
from vsr.alignment.crops import Crop
from vsr.alignment.timeline import Timeline

__all__ = ["Clock", "Crop", "Timeline"]
