"""Frames -> numbered PNG files."""

import re
from fractions import Fraction
from pathlib import Path

import av
import torch
from av.video.codeccontext import VideoCodecContext

from vsr.errors import OutputError, UsageError
from vsr.frames import ClipInfo, Frame
from vsr.media.copying import labels_of_others
from vsr.media.encoders import EncodeOptions, choose_pixel_format, configure, plan_chosen
from vsr.media.segments import FrameConverter

NAME_IN_FOLDER = "%06d.png"

_NUMBER_FIELD = re.compile(r"%0?(\d*)d")


class PictureOutput:
    """Writes one PNG per frame into a folder, numbered from 1. Raises UsageError for options that PNG does not have."""

    def __init__(
        self, folder: Path, pattern: str, source: ClipInfo, height: int, width: int, options: EncodeOptions
    ) -> None:
        if options.crf is not None or options.preset is not None:
            raise UsageError("png is lossless and has neither quality nor presets: leave out --crf and --preset")
        self.encoder_name = "png"
        self.pixel_format = choose_pixel_format(
            source.pixel_format, ("rgb24", "rgb48be", "gray", "gray16be"), options.pixel_format, "png"
        )
        plan = plan_chosen(source, height, width, "png", self.pixel_format, {})
        self._convert = FrameConverter(plan, torch.device("cpu"))
        self._context: VideoCodecContext = av.Codec("png", "w").create("video")
        configure(self._context, plan)
        self._folder = folder
        self._pattern = pattern
        self.num_frames = 0
        self.max_pts_error = Fraction(0)
        self.streams_kept: list[str] = []
        self.streams_dropped = [f"{label}: pictures hold nothing else" for label in labels_of_others(source)]
        self.notes = [
            f"pictures carry no time: the clip's {source.average_rate or 'unknown'} frames a second are not kept"
        ]

    def write(self, frame: Frame) -> None:
        self.num_frames += 1
        (packet,) = self._context.encode(self._convert(frame))
        (self._folder / numbered_name(self._pattern, self.num_frames)).write_bytes(bytes(packet))

    def finish(self) -> None:
        if self.num_frames == 0:
            raise OutputError("there is no frame to write; nothing was written")


def numbered_name(pattern: str, number: int) -> str:
    """The pattern with its `%06d` filled in."""
    return _NUMBER_FIELD.sub(lambda field: f"{number:0{field.group(1) or 1}d}", pattern, count=1)


def names_of(pattern: str) -> re.Pattern[str]:
    """Matches every name that the pattern can give."""
    before, _, after = _NUMBER_FIELD.split(pattern, maxsplit=1)
    return re.compile(re.escape(before) + r"\d+" + re.escape(after))
