"""Writer of a result that appears under its name only when it is whole, with every timestamp and
every other stream."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import av
import torch

from vsr.errors import OutputError, UsageError
from vsr.image.orientation import Orientation
from vsr.video.frames import ClipInfo, Frame
from vsr.video.read.image_sequence import IMAGE_SUFFIXES, is_numbered_pattern
from vsr.video.step import Checkpoint, Json
from vsr.video.write.destination import (
    Destination,
    FileDestination,
    FolderDestination,
    PipeDestination,
    existing_images,
)
from vsr.video.write.disk_space import check_space
from vsr.video.write.encoders import EncodeOptions, VideoPlan, drop_real_time_priority
from vsr.video.write.image_sequence import DEFAULT_NAME_PATTERN, ImageSequenceOutput
from vsr.video.write.mux import ROTATING_FORMATS, OutputFormat, format_of
from vsr.video.write.read_back import Verified
from vsr.video.write.segment_store import (
    ClosedSegment,
    SegmentKeeper,
    SegmentStore,
    WorkOptions,
    is_committed_result,
)
from vsr.video.write.video_output import (
    PipedVideoOutput,
    SegmentedVideoOutput,
    VideoSegments,
)
from vsr.video.write.y4m import Y4mOutput

__all__ = ["ClipWriter", "EncodeOptions", "PipeFormat", "WorkOptions", "WriteReport"]

STANDARD_OUTPUT = "-"

PipeFormat = Literal["matroska", "y4m"]
"""Formats that standard output can carry."""


@dataclass(frozen=True)
class WriteReport:
    """Summary of a finished result."""

    frames_out: int
    streams_kept: tuple[str, ...]
    streams_dropped: tuple[str, ...]
    """Each with the reason."""
    max_pts_error_seconds: float
    """Largest difference between a frame's time and what the container could hold of it."""
    encoder: str
    pixel_format: str
    notes: tuple[str, ...]
    damage: tuple[str, ...] = ()
    """Lost parts of the copied streams."""
    verified: Verified | None = None
    """Findings of reading the result back; None for a pipe."""


@dataclass(frozen=True)
class SegmentForm:
    """All that another process needs to encode segments of an output as its writer does."""

    source: ClipInfo
    size: tuple[int, int]
    """Height and width of the frames."""
    options: EncodeOptions
    form: str
    """Container format; for pictures the pattern of their names."""
    is_pictures: bool = False

    def open(
        self, keeper: SegmentKeeper, device: torch.device, resources: ExitStack
    ) -> VideoSegments | ImageSequenceOutput:
        """Open what encodes segments into `keeper`."""
        if self.is_pictures:
            # Without an identity: the clip, which only its other streams are asked of, may not be
            # on this machine.
            source = replace(self.source, identity="")
            return ImageSequenceOutput(self.form, source, *self.size, self.options, keeper)
        return VideoSegments(
            self.source, *self.size, self.options, self.form, device, keeper, resources
        )


class ClipWriter:
    """Writes frames of one size to a video file, to numbered PNG files, or to standard output
    (`-`), as Matroska or y4m.

    A context manager. On entry everything that can be checked is checked. A file or pictures are
    written by segments into a work folder: with a `plan`, what is closed of them outlives the
    writer, and a writer with an equal plan resumes after it; without one nothing stays unless
    `finish` was called. Raises UsageError for options that clash, OutputError for all that concerns
    the output.
    """

    def __init__(
        self,
        output: str | Path,
        source: ClipInfo,
        height: int,
        width: int,
        options: EncodeOptions,
        overwrite: bool,
        device: torch.device,
        plan: Json | None = None,
        work: WorkOptions = WorkOptions(),
        pipe_format: PipeFormat = "matroska",
    ) -> None:
        self._name = str(output)
        # A link stays, and what it points to is written.
        self._target = (
            Path(output) if self._name == STANDARD_OUTPUT else Path(os.path.realpath(output))
        )
        self._source = source
        self._size = (height, width)
        self._options = options
        self._overwrite = overwrite
        self._device = device
        self._plan, self._work_options = plan, work
        self._pipe_format = pipe_format
        self.work: SegmentStore | None = None
        """None for standard output."""
        self.segment_form: SegmentForm | None = None
        """None for standard output."""

    def __enter__(self) -> Self:
        with ExitStack() as resources, self._output_errors():
            if self._name == STANDARD_OUTPUT:
                self._to_pipe(resources)
            elif self._is_pictures():
                self._to_pictures(resources)
            else:
                self._to_file(resources)
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._resources.close()
        drop_real_time_priority()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that the user should read: what was chosen, padded or converted."""
        return tuple(self._notes)

    @property
    def target(self) -> Path:
        """Where the result goes; a link leads to what it points to."""
        return self._target

    def write(self, frame: Frame, checkpoint: Checkpoint | None = None) -> None:
        """Add a frame, on any device. Times strictly increase, in the source's time base.

        A `checkpoint` closes the segment: whatever may happen, its frames are safe from then on.
        Without any, segments are as long as the options say.
        """
        output = self._output
        with self._output_errors():
            if isinstance(output, PipedVideoOutput | Y4mOutput):
                output.write(frame)
                # Raw pictures have no segments.
                if checkpoint is not None and isinstance(output, PipedVideoOutput):
                    output.end_segment()
                return
            if output.is_segment_full:
                output.close_segment(Checkpoint())
            output.write(frame)
            if checkpoint is not None:
                output.close_segment(checkpoint)

    def close_ahead(self) -> int:
        """Close the segments that others have made, as far as they follow those closed already;
        returns the number of their frames."""
        assert self.work is not None, "segments are kept in a work folder"
        with self._output_errors():
            closed = self.work.close_ahead()
        self._output.num_frames = self.work.frames_done
        return closed

    def keep_ahead(
        self,
        segment: ClosedSegment,
        content: Mapping[str, bytes],
        picture: torch.Tensor,
        checkpoint: Checkpoint,
    ) -> None:
        """Keep a segment that another process has made, as `SegmentStore.keep_ahead` does. Raises
        OutputError."""
        assert self.work is not None, "segments are kept in a work folder"
        with self._output_errors():
            self.work.keep_ahead(segment, content, picture, checkpoint)

    def finish(self) -> WriteReport:
        """Complete the output and give it its name."""
        output = self._output
        if output.num_frames == 0:
            raise OutputError("there is no frame to write; nothing was written")
        with self._output_errors():
            if not isinstance(output, PipedVideoOutput | Y4mOutput):
                output.close_segment(Checkpoint())
            if isinstance(output, ImageSequenceOutput):
                assert isinstance(self._destination, FolderDestination)
                assert self.work is not None
                self._destination.move_in(output.pictures(self.work))
            else:
                output.finish()
            verified = self._verify()
            self._destination.commit()
        # Only now: if the process ends before this, the next one finds the work and resumes.
        if self.work is not None:
            self.work.mark_finished()
        streams = output if isinstance(output, ImageSequenceOutput | Y4mOutput) else output.muxer
        return WriteReport(
            frames_out=output.num_frames,
            streams_kept=tuple(streams.streams_kept),
            streams_dropped=(*streams.streams_dropped, *self._lost_chapters(verified)),
            max_pts_error_seconds=verified.max_pts_error_seconds
            if verified
            else float(streams.max_pts_error),
            encoder=output.plan.codec,
            pixel_format=output.plan.pixel_format,
            notes=tuple(
                dict.fromkeys((*self.notes, *streams.notes, *(verified.notes if verified else ())))
            ),
            damage=(*streams.damage, *(verified.damage if verified else ())),
            verified=verified,
        )

    def _verify(self) -> Verified | None:
        """Read the result back before it gets its name."""
        output = self._output
        if isinstance(output, SegmentedVideoOutput):
            assert isinstance(self._destination, FileDestination)
            self._destination.file.flush()
            file = Path(self._destination.file.name)
            return output.read_back(file, self._options.verify)
        if isinstance(output, ImageSequenceOutput):
            return Verified(output.num_frames, 0.0, 1)
        return None

    def _lost_chapters(self, verified: Verified | None) -> list[str]:
        """A sentence on chapters that cannot be read back; none for pictures and pipes."""
        if verified is None or not isinstance(self._output, SegmentedVideoOutput):
            return []
        lost = self._output.muxer.copier.num_chapters - verified.chapters
        return [f"{lost} chapters: {self._target.suffix} does not keep them"] if lost > 0 else []

    def _is_single_picture(self) -> bool:
        """Tell whether a picture file is enlarged into another one."""
        is_name = not (is_numbered_pattern(self._target) or self._target.is_dir())
        return self._source.is_still and self._target.suffix.lower() == ".png" and is_name

    def _is_pictures(self) -> bool:
        if self._options.codec == "png" or self._is_single_picture():
            return True
        if is_numbered_pattern(self._target):
            # A film, too, may be called `take%02d.mp4`.
            return self._target.suffix.lower() in ("", *IMAGE_SUFFIXES)
        return self._source.container == "images" and not self._target.suffix

    def _to_pipe(self, resources: ExitStack) -> None:
        if self._options.codec == "png":
            raise UsageError("png writes many files and standard output is one: name a folder")
        destination = resources.enter_context(PipeDestination())
        self._destination: Destination = destination
        self._output: PipedVideoOutput | Y4mOutput | SegmentedVideoOutput | ImageSequenceOutput
        if self._pipe_format == "y4m":
            self._turn_pixels()
            y4m = Y4mOutput(
                destination.file, self._source, *self._size, self._options, self._device
            )
            self._output, self._notes = y4m, y4m.notes
            return
        piped = PipedVideoOutput(
            destination.file,
            "matroska",
            self._source,
            *self._size,
            self._options,
            self._device,
            resources,
        )
        self._output = piped
        self._notes = [*piped.notes, *piped.muxer.notes]

    def _to_file(self, resources: ExitStack) -> None:
        container_format = format_of(self._target)
        if container_format == "image2":
            raise UsageError(
                f"{self._name}: one picture file, and a clip has many: name a folder, or a pattern "
                "like out/%06d.png"
            )
        if container_format not in ROTATING_FORMATS:
            self._turn_pixels()
        self._refuse_own_input(self._target)
        if self._target.exists() and not self._target.is_file():
            raise OutputError(
                f"{self._name}: not a regular file; name a file, or - for standard output"
            )
        # Before any work: a night of upscaling must not end at a file that may not be replaced.
        if self._target.exists() and not self._may_replace():
            raise OutputError(
                f"{self._name} exists already; give -y to replace it, or name another file"
            )
        self._check_folder()
        work = resources.enter_context(self._open_work())
        destination = resources.enter_context(
            FileDestination(self._target, work.part_path(self._target), work.record_commit)
        )
        self._destination = destination
        segmented = SegmentedVideoOutput(
            destination.file,
            OutputFormat(container_format, self._target.suffix),
            self._source,
            *self._size,
            self._options,
            self._device,
            work,
            resources,
        )
        self._output = segmented
        self.segment_form = SegmentForm(self._source, self._size, self._options, container_format)
        self._notes = [
            *segmented.notes,
            *segmented.muxer.notes,
            *self._check_space(work, segmented.plan),
        ]

    def _to_pictures(self, resources: ExitStack) -> None:
        if self._options.codec not in ("auto", "png"):
            raise UsageError(f"numbered pictures are PNG: {self._options.codec} cannot write them")
        is_pattern = is_numbered_pattern(self._target)
        is_single = self._is_single_picture()
        if self._target.suffix and self._target.suffix.lower() != ".png":
            raise UsageError(
                f"{self._name}: png writes a folder of pictures: name a folder, or a pattern like "
                "out/%06d.png"
            )
        folder = self._target.parent if is_pattern or is_single else self._target
        pattern = self._target.name if is_pattern or is_single else DEFAULT_NAME_PATTERN
        self._turn_pixels()
        self._refuse_own_input(self._target if is_single else folder)
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder}: not a folder; pictures need one")
        if not is_single:
            self._target = folder
        if existing_images(folder, pattern) and not self._may_replace():
            raise OutputError(
                f"{self._name}: pictures exist already; give -y to replace them, or name another "
                "folder"
            )
        self._check_folder()
        work = resources.enter_context(self._open_work())
        self._destination = resources.enter_context(
            FolderDestination(
                folder,
                work.part_path(self._target),
                pattern,
                work.record_commit,
                self._plan is None,
            )
        )
        self._output = ImageSequenceOutput(pattern, self._source, *self._size, self._options, work)
        self.segment_form = SegmentForm(
            self._source, self._size, self._options, pattern, is_pictures=True
        )
        self._notes = [*self._output.notes, *self._check_space(work, self._output.plan)]

    def _turn_pixels(self) -> None:
        """Have pixels turned upright, for an output that has no tag for it."""
        turn = Orientation.from_matrix(self._source.display_matrix)
        ratio = self._source.sample_aspect_ratio
        self._size = turn.size(*self._size)
        self._source = replace(
            self._source,
            display_matrix=None,
            turn=turn,
            sample_aspect_ratio=1 / ratio if ratio and turn.transposed else ratio,
        )

    def _may_replace(self) -> bool:
        return self._overwrite or (
            self._plan is not None and is_committed_result(self._target, self._work_options)
        )

    def _open_work(self) -> SegmentStore:
        self.work = SegmentStore.of(self._target, self._plan, self._work_options)
        return self.work

    def _check_folder(self) -> None:
        if not os.access(self._target.parent, os.W_OK) and self._target.parent.is_dir():
            raise OutputError(
                f"{self._name}: the folder {self._target.parent} is read-only; choose another place"
            )

    def _check_space(self, work: SegmentStore, plan: VideoPlan) -> list[str]:
        num_frames = self._source.num_frames_expected
        return check_space(plan, num_frames, work.frames_done, self._target, work.folder)

    def _refuse_own_input(self, target: Path) -> None:
        is_pattern = self._source.container == "images" and not self._source.path.exists()
        source = self._source.path.parent if is_pattern else self._source.path
        if target.exists() and source.exists() and target.samefile(source):
            raise OutputError(f"{self._name}: this is the input itself; name another output")

    @contextmanager
    def _output_errors(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            name = "standard output" if self._name == STANDARD_OUTPUT else self._name
            raise OutputError(f"{name}: cannot be written: {error.strerror or error}") from error
