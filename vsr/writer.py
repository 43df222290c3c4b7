"""Frames -> a file that appears under its name only when it is whole, with every timestamp and every other stream."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import torch

from vsr.errors import OutputError, UsageError
from vsr.frames import ClipInfo, Frame
from vsr.media.encoders import EncodeOptions
from vsr.media.muxing import FilmOutput
from vsr.media.picture_output import NAME_IN_FOLDER, PictureOutput
from vsr.media.pictures import PICTURE_SUFFIXES, is_numbered_pattern
from vsr.media.places import FilePlace, FolderPlace, PipePlace, Place, existing_pictures

__all__ = ["ClipWriter", "EncodeOptions", "WriteReport"]

STANDARD_OUTPUT = "-"


@dataclass(frozen=True)
class WriteReport:
    """What was written."""

    frames_out: int
    streams_kept: tuple[str, ...]
    streams_dropped: tuple[str, ...]
    """Each with the reason."""
    max_pts_error_seconds: float
    """Largest difference between a frame's time and what the container could hold of it."""
    encoder: str
    pixel_format: str
    notes: tuple[str, ...]


class ClipWriter:
    """Writes frames of one size to a video file, to numbered PNG files, or as Matroska to standard output (`-`).

    A context manager. On entry everything that can be checked is checked; leaving it without `finish` removes what
    was written. Raises UsageError for options that clash, OutputError for all that concerns the output.
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
    ) -> None:
        self._name = str(output)
        self._target = Path(output)
        self._source = source
        self._size = (height, width)
        self._options = options
        self._overwrite = overwrite
        self._device = device

    def __enter__(self) -> Self:
        with ExitStack() as resources, self._failures_told():
            if self._name == STANDARD_OUTPUT:
                self._to_pipe(resources)
            elif self._is_pictures():
                self._to_pictures(resources)
            else:
                self._to_file(resources)
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that the user should read: what was chosen, padded or converted."""
        return tuple(self._output.notes)

    def write(self, frame: Frame) -> None:
        """Add a frame, on any device. Times strictly increase, in the source's time base."""
        with self._failures_told():
            self._output.write(frame)

    def finish(self) -> WriteReport:
        """Complete the output and give it its name."""
        with self._failures_told():
            self._output.finish()
            self._place.commit()
        output = self._output
        return WriteReport(
            frames_out=output.num_frames,
            streams_kept=tuple(output.streams_kept),
            streams_dropped=tuple(output.streams_dropped),
            max_pts_error_seconds=float(output.max_pts_error),
            encoder=output.encoder_name,
            pixel_format=output.pixel_format,
            notes=self.notes,
        )

    def _is_pictures(self) -> bool:
        if self._options.codec == "png":
            return True
        if is_numbered_pattern(self._target):
            # A film, too, may be called `take%02d.mp4`.
            return self._target.suffix.lower() in ("", *PICTURE_SUFFIXES)
        return self._source.container == "images" and not self._target.suffix

    def _to_pipe(self, resources: ExitStack) -> None:
        if self._options.codec == "png":
            raise UsageError("png writes many files and standard output is one: name a folder")
        place = resources.enter_context(PipePlace())
        self._place: Place = place
        self._output: FilmOutput | PictureOutput = FilmOutput(
            place.file, "matroska", self._source, *self._size, self._options, self._device, resources
        )

    def _to_file(self, resources: ExitStack) -> None:
        container_format = _format_of(self._target)
        self._refuse_own_input(self._target)
        if self._target.exists() and not self._target.is_file():
            raise OutputError(f"{self._name}: not an ordinary file; name a file, or - for standard output")
        if self._target.exists() and not self._overwrite:
            raise OutputError(f"{self._name}: exists already; -y overwrites it")
        place = resources.enter_context(FilePlace(self._target))
        self._place = place
        self._output = FilmOutput(
            place.file, container_format, self._source, *self._size, self._options, self._device, resources
        )

    def _to_pictures(self, resources: ExitStack) -> None:
        if self._options.codec not in ("auto", "png"):
            raise UsageError(f"numbered pictures are PNG: {self._options.codec} cannot write them")
        is_pattern = is_numbered_pattern(self._target)
        if self._target.suffix and self._target.suffix.lower() != ".png":
            raise UsageError(
                f"{self._name}: png writes a folder of pictures: name a folder, or a pattern like out/%06d.png"
            )
        folder = self._target.parent if is_pattern else self._target
        pattern = self._target.name if is_pattern else NAME_IN_FOLDER
        self._refuse_own_input(folder)
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder}: not a folder; pictures need one")
        if existing_pictures(folder, pattern) and not self._overwrite:
            raise OutputError(f"{self._name}: pictures are there already; -y overwrites them")
        place = resources.enter_context(FolderPlace(folder, pattern))
        self._place = place
        self._output = PictureOutput(place.folder, pattern, self._source, *self._size, self._options)

    def _refuse_own_input(self, target: Path) -> None:
        is_pattern = self._source.container == "images" and not self._source.path.exists()
        source = self._source.path.parent if is_pattern else self._source.path
        if target.exists() and source.exists() and target.samefile(source):
            raise OutputError(f"{self._name}: this is the input itself; name another output")

    @contextmanager
    def _failures_told(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            name = "standard output" if self._name == STANDARD_OUTPUT else self._name
            raise OutputError(f"{name}: cannot be written: {error.strerror or error}") from error


def _format_of(target: Path) -> str:
    try:
        with av.open(f"x{target.suffix}", "w") as container:
            return container.format.name
    except ValueError as error:
        raise OutputError(
            f"{target}: no video format has the suffix '{target.suffix}'; use .mp4, .mov or .mkv"
        ) from error
