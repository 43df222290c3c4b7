"""Numbered PNG files as a result."""

from fractions import Fraction
from pathlib import Path

import av
import torch
from av.video.codeccontext import VideoCodecContext

from vsr.errors import UsageError
from vsr.files import flush_to_disk, sync_folder
from vsr.video.frames import ClipInfo, Frame
from vsr.video.step import Checkpoint
from vsr.video.write.destination import format_name
from vsr.video.write.encoders import EncodeOptions, choose_pixel_format, configure, plan_with_format
from vsr.video.write.segment_store import PART_SUFFIX, SegmentKeeper, SegmentStore
from vsr.video.write.segments import FrameConverter
from vsr.video.write.stream_copy import other_stream_labels

DEFAULT_NAME_PATTERN = "%06d.png"

PNG_FORMATS = ("rgb24", "rgb48be", "gray", "gray16be", "rgba", "rgba64be", "ya8", "ya16be")


class ImageSequenceOutput:
    """Writes one PNG per frame, numbered from 1, into a folder for each segment of a work folder.

    Raises UsageError for options that PNG does not have.
    """

    def __init__(
        self,
        pattern: str,
        source: ClipInfo,
        height: int,
        width: int,
        options: EncodeOptions,
        work: SegmentKeeper,
    ) -> None:
        if options.crf is not None or options.preset is not None:
            raise UsageError(
                "png is lossless and has neither quality nor presets: leave out --crf and --preset"
            )
        pixel_format = choose_pixel_format(
            source.pixel_format, PNG_FORMATS, options.pixel_format, "png"
        )
        self.plan = plan_with_format(source, height, width, "png", pixel_format, {})
        self._convert = FrameConverter(self.plan, torch.device("cpu"))
        self._context: VideoCodecContext = av.Codec("png", "w").create("video")
        configure(self._context, self.plan)
        self._pattern = pattern
        self._work = work
        self._frames_per_segment = options.segment_frames
        self._open: Path | None = None
        self.num_frames = work.frames_done
        self.max_pts_error = Fraction(0)
        self.damage: list[str] = []
        self.streams_kept: list[str] = []
        self.streams_dropped = [
            f"{label}: pictures hold nothing else" for label in other_stream_labels(source)
        ]
        told = (
            f"pictures carry no time: the clip's {source.average_rate or 'unknown'} frames a "
            "second are not kept"
        )
        self.notes = [] if source.is_still else [told]

    @property
    def is_segment_full(self) -> bool:
        """Whether the next frame belongs to a new segment, so that this one must be closed."""
        return (
            self._open is not None
            and self.num_frames - self._work.frames_done == self._frames_per_segment
        )

    def write(self, frame: Frame) -> None:
        if self._open is None:
            self._open = self._work.segment_path(self._work.num_segments, PART_SUFFIX)
            self._open.mkdir()
        (packet,) = self._context.encode(self._convert(frame))
        self.num_frames += 1
        with (self._open / format_name(self._pattern, self.num_frames)).open("wb") as file:
            file.write(packet)
            file.flush()
            flush_to_disk(file.fileno())
        self._last = frame

    def close_segment(self, checkpoint: Checkpoint) -> None:
        """Complete the segment and keep it, with the checkpoint that a later run resumes from."""
        if self._open is None:
            return
        sync_folder(self._open)
        self._open.replace(self._work.segment_path(self._work.num_segments, ""))
        self._open = None
        times = ((self._last.pts, None, self._last.duration),)
        num_frames = self.num_frames - self._work.frames_done
        self._work.close_segment(num_frames, 0, times, self._last.pixels, checkpoint)

    def go_on_after(self, _: int) -> None:
        """Pictures carry no time."""

    def pictures(self, work: SegmentStore) -> list[Path]:
        """Paths of the pictures of all closed segments, unless they have been moved on."""
        return [
            work.segment_path(number, "") / format_name(self._pattern, position + 1)
            for number, segment in enumerate(work.segments())
            for position in range(segment.first_frame, segment.first_frame + segment.num_frames)
        ]
