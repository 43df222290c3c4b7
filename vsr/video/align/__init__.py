"""Finding the frame of one clip that belongs to a time of another, and the part of it that belongs
to a picture."""

from vsr.video.align.crops import Crop
from vsr.video.align.time_map import TimeMap
from vsr.video.align.timeline import Timeline

__all__ = ["Crop", "TimeMap", "Timeline"]
