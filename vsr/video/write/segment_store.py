"""Store of an unfinished run: a folder of closed segments, each with the checkpoint after it."""

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from zipfile import BadZipFile

import numpy as np
import torch

from vsr.errors import OutputError, UsageError
from vsr.files import (
    LOCK_NAME,
    FolderLock,
    flush_to_disk,
    hidden_sibling,
    sync_folder,
    write_atomically,
)
from vsr.records import option
from vsr.video.step import Checkpoint, Json, State

FORMAT = 2
"""Number of the form of work folders; others are refused."""
PLAN_NAME = "run.json"
REQUESTED, RESOLVED = "asked", "decided"
"""Parts of a plan: options that a resumed run must share, and choices that it takes over."""
COMMIT_RECORD_NAME = "naming.json"
TENSORS_SUFFIX = "-last.npz"
PICTURE = "picture"
WORK_SUFFIX = ".vsr-work"
LEFTOVER_SUFFIX = ".gone"
AHEAD_PREFIX = "ahead-"
"""Begins the name of a folder with a segment that was made before those in front of it; the rest is
the number of its first frame."""
AHEAD_FRAMES, AHEAD_RECORD, AHEAD_TENSORS = "frames", "segment.json", "last.npz"
"""Contents of such a folder."""
PART_SUFFIX = ".part"
"""Ends the name of what is not whole yet."""


@dataclass(frozen=True)
class WorkOptions:
    """Options of where the work of a run is kept, and for how long."""

    folder: Path | None = option(
        None,
        "Folder for the unfinished segments; default: a hidden folder beside the output.",
        "--work-dir",
        metavar="DIR",
    )
    keep: bool = option(False, "Keep the segments after the run has finished.", "--keep-work")
    restart: bool = option(
        False, "Discard the unfinished segments and start at the first frame.", "--restart"
    )


@dataclass(frozen=True)
class ClosedSegment:
    """Record of one closed segment, kept beside its frames."""

    first_frame: int
    num_frames: int
    num_bytes: int
    """Size of the segment's file; 0 for a folder of pictures."""
    times: tuple[tuple[int, int | None, int], ...]
    """Presentation time, decoding time and duration of each packet, in the source's time base:
    Matroska would round."""
    states: Json
    """State of each stage after the last of these frames, by name: its record, and the growth of
    its log since the segment before."""


@dataclass(frozen=True)
class Resumed:
    """State of the work of an earlier run; empty without one."""

    frames_done: int = 0
    picture: torch.Tensor | None = None
    """The last picture, as it was before it was encoded: (3, H, W)."""
    states: Mapping[str, State] = field(default_factory=dict)
    """State of each stage, by name, with the whole of its log."""


class SegmentKeeper(Protocol):
    """Whoever takes segments: the store of a run, or a worker that makes a single one."""

    num_segments: int
    frames_done: int
    """Frames before the segment at hand, counted from the first of the clip."""

    def segment_path(self, number: int, suffix: str) -> Path:
        """Path of the file or folder of a segment."""
        ...

    def close_segment(
        self,
        num_frames: int,
        num_bytes: int,
        times: tuple[tuple[int, int | None, int], ...],
        picture: torch.Tensor,
        checkpoint: Checkpoint,
    ) -> None:
        """Note that the segment is whole."""
        ...


class SegmentEnds:
    """Decides where segments end: behind `most` frames, or at a cut once they have a quarter of
    that.

    At a cut nothing that was made of the frames before is needed, so another machine can begin
    there; very short shots are not worth a segment each.
    """

    def __init__(self, start: int, most: int) -> None:
        self.start = start
        """First frame of the segment at hand."""
        self._most = most

    def ends_at(self, frame: int, *, before_cut: bool) -> bool:
        """Tell whether the segment ends with this frame, and begin the next one then."""
        length = frame + 1 - self.start
        if length < self._most and not (before_cut and length >= self._most // 4):
            return False
        self.start = frame + 1
        return True


class SegmentStore:
    """A context manager that holds the folder of one run, with the segments that are closed
    already.

    What is closed stays when the process ends, however it ends, until `mark_finished` was called. A
    folder without a plan belongs to an output that nothing can be added to later: it is removed on
    leaving in any case. Raises OSError, and OutputError where another process holds the folder or
    where what it holds is broken.
    """

    def __init__(
        self, folder: Path, plan: Json | None, *, keep: bool = False, restart: bool = False
    ) -> None:
        self.folder = folder
        self.plan = plan
        self._wanted = plan
        self._keep = keep
        self._restart = restart
        self._is_finished = False
        self.num_segments = 0
        """Closed ones."""
        self.frames_done = 0
        """Frames in them, counted from the first of the clip."""

    @classmethod
    def of(cls, output: Path, plan: Json | None, options: WorkOptions) -> "SegmentStore":
        """Make the folder in which the work of this output is kept from one attempt to the next.

        Without a plan it is a folder beside the output that does not outlive the process, if that
        can be helped.
        """
        if plan is None:
            return cls(output.absolute().with_name(f".vsr-{secrets.token_hex(4)}.part"), None)
        if options.folder is not None and not options.folder.is_dir():
            raise OutputError(
                f"--work-dir {options.folder}: there is no such folder; make it, or name another"
            )
        plan = {"format": FORMAT, **plan}
        # Through JSON and back, so that it compares equal to what will be read from the disk.
        plan = json.loads(json.dumps(plan, allow_nan=False))
        return cls(work_folder(output, options), plan, keep=options.keep, restart=options.restart)

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            self.folder.mkdir(exist_ok=self._wanted is not None)
            resources.callback(self._remove_if_empty)
            resources.enter_context(
                FolderLock(self.folder, "the work of this output is being done")
            )
            resources.callback(self._clean_up)
            # Behind the lock: another process may be at work on what would be removed.
            if self._restart:
                _clear(self.folder, but=LOCK_NAME)
            self._read()
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._resources.close()

    def _remove_if_empty(self) -> None:
        with suppress(OSError):
            self.folder.rmdir()

    @property
    def is_begun(self) -> bool:
        """Whether a segment is done, closed or kept ahead."""
        return self._record_path(0).exists() or any(self._ahead())

    def _clean_up(self) -> None:
        if self._wanted is None or not self.is_begun or (self._is_finished and not self._keep):
            # In one step: ended before it, the same command finds all of its work and finishes
            # again. Ended after it, the record still tells whose the result is, until it goes last.
            gone = _leftover(self.folder)
            with suppress(OSError):
                _clear(gone)
                gone.rmdir()
            with suppress(OSError):
                self.folder.rename(gone)
                _clear(gone, but=COMMIT_RECORD_NAME)
            shutil.rmtree(gone, ignore_errors=True)
            shutil.rmtree(self.folder, ignore_errors=True)

    def segments(self) -> Iterator[ClosedSegment]:
        """Read the closed segments in order, one by one: a long clip has many frames."""
        for number in range(self.num_segments):
            yield _read_segment(self._record_path(number))

    def segment_path(self, number: int, suffix: str) -> Path:
        return self.folder / f"segment-{number:06d}{suffix}"

    def close_segment(
        self,
        num_frames: int,
        num_bytes: int,
        times: tuple[tuple[int, int | None, int], ...],
        picture: torch.Tensor,
        checkpoint: Checkpoint,
    ) -> None:
        """Note that the next segment is whole; its own file or folder must have its final name
        already. See `ClosedSegment` for the first three.

        Until the next segment is closed, the last `picture`, before it was encoded, and the tensors
        of the checkpoint are kept exactly.
        """
        if self._wanted is not None:
            self._write_tensors(self._tensors_path(self.num_segments), picture, checkpoint)
            sync_folder(self.folder)
        self._record(
            ClosedSegment(
                self.frames_done, num_frames, num_bytes, times, checkpoint_records(checkpoint)
            )
        )

    def keep_ahead(
        self,
        segment: ClosedSegment,
        content: Mapping[str, bytes],
        picture: torch.Tensor,
        checkpoint: Checkpoint,
    ) -> None:
        """Keep a segment that another process has made, whether or not those before it are closed.

        `content` holds its files by name: one, or the pictures of a folder. It is closed by
        `close_ahead`, also by a later run.
        """
        folder = self._ahead_path(segment.first_frame)
        # Under another name until it is whole: what an ended process leaves must not count.
        part = folder.with_name(folder.name + PART_SUFFIX)
        shutil.rmtree(part, ignore_errors=True)
        frames = part / AHEAD_FRAMES
        frames.mkdir(parents=True)
        for name, data in content.items():
            _write_through(frames / name, data)
        sync_folder(frames)
        self._write_tensors(part / AHEAD_TENSORS, picture, checkpoint)
        values = json.dumps(asdict(segment), allow_nan=False)
        _write_through(part / AHEAD_RECORD, values.encode())
        # Content before its name: after a power failure the name must not stand alone.
        sync_folder(part)
        part.rename(folder)
        sync_folder(self.folder)

    def read_ahead(self, first_frame: int) -> ClosedSegment | None:
        """Read the record of the kept segment that begins with this frame; None where there is
        none."""
        path = self._ahead_path(first_frame) / AHEAD_RECORD
        return _read_segment(path) if path.exists() else None

    def read_tensors(self, segment: ClosedSegment) -> tuple[torch.Tensor, dict[str, State]]:
        """Read the last picture of a segment, kept or the last one closed, and the tensors and
        records of its checkpoint, without its logs."""
        is_closed = segment.first_frame + segment.num_frames <= self.frames_done
        kept = self._ahead_path(segment.first_frame) / AHEAD_TENSORS
        tensors = self._tensors() if is_closed else _read_tensors(kept)
        picture = tensors.pop(PICTURE)
        return picture, {
            stage: State(state["record"], _of_stage(tensors, stage))
            for stage, state in segment.states.items()
        }

    def close_ahead(self) -> int:
        """Close the kept segments that follow those closed already, in order; returns the number of
        their frames."""
        before = self.frames_done
        while (segment := self.read_ahead(self.frames_done)) is not None:
            folder, number = self._ahead_path(segment.first_frame), self.num_segments
            frames = folder / AHEAD_FRAMES
            # Each move is one step, and one that was made before an end is not missed.
            if segment.num_bytes:
                for file in frames.iterdir():
                    file.replace(self.segment_path(number, file.suffix))
            elif frames.exists():
                frames.replace(self.segment_path(number, ""))
            if (tensors := folder / AHEAD_TENSORS).exists():
                tensors.replace(self._tensors_path(number))
            sync_folder(self.folder)
            self._record(segment)
            shutil.rmtree(folder, ignore_errors=True)
        return self.frames_done - before

    def _record(self, segment: ClosedSegment) -> None:
        # This file is what makes the segment count; whatever it speaks of is on the disk by now.
        write_atomically(
            self._record_path(self.num_segments),
            json.dumps(asdict(segment), allow_nan=False).encode(),
        )
        # A run goes on behind the last segment alone, so older tensors are of no use.
        self._tensors_path(self.num_segments - 1).unlink(missing_ok=True)
        self.num_segments += 1
        self.frames_done += segment.num_frames

    def _write_tensors(self, path: Path, picture: torch.Tensor, checkpoint: Checkpoint) -> None:
        arrays: dict[str, Any] = {PICTURE: picture.cpu().numpy()}
        for stage, state in checkpoint.states.items():
            for name, tensor in state.tensors.items():
                arrays[f"{stage}/{name}"] = tensor.cpu().numpy()
        with path.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            flush_to_disk(file.fileno())

    def resumed(self) -> Resumed:
        """Read from the closed segments what a run needs to resume after them."""
        if not self.num_segments:
            return Resumed()
        records: dict[str, Json] = {}
        logs: dict[str, dict[str, list[Any]]] = {}
        # Records replace each other; logs grow from segment to segment.
        for segment in self.segments():
            for stage, state in segment.states.items():
                records[stage] = state["record"]
                for name, entries in state["log"].items():
                    logs.setdefault(stage, {}).setdefault(name, []).extend(entries)
        tensors = self._tensors()
        picture = tensors.pop(PICTURE)
        states = {
            stage: State(record, _of_stage(tensors, stage), logs.get(stage, {}))
            for stage, record in records.items()
        }
        return Resumed(self.frames_done, picture, states)

    def _tensors(self) -> dict[str, torch.Tensor]:
        return _read_tensors(self._tensors_path(self.num_segments - 1))

    def _ahead(self) -> Iterator[Path]:
        return self.folder.glob(f"{AHEAD_PREFIX}*")

    def _ahead_path(self, first_frame: int) -> Path:
        return self.folder / f"{AHEAD_PREFIX}{first_frame:09d}"

    def record_commit(self, whole: Path, target: Path) -> None:
        """Note which result is about to get its name: a later run knows it for its own then, by
        `is_committed_result`."""
        if self._wanted is not None:
            write_atomically(
                self.folder / COMMIT_RECORD_NAME,
                json.dumps([str(target.name), whole.stat().st_ino]).encode(),
            )

    def part_path(self, output: Path) -> Path:
        """Path at which the whole result is put together: on the disk of the output, so that
        renaming it is one step."""
        if self.folder.parent == output.parent:
            return self.folder / f"whole{PART_SUFFIX}"
        return hidden_sibling(output, f".vsr{PART_SUFFIX}")

    def mark_finished(self) -> None:
        """Note that the result is whole and has its name: the work is no longer needed."""
        self._is_finished = True

    def _read(self) -> None:
        """Take over what is there, or begin."""
        if self._wanted is None:
            return
        plan = self.folder / PLAN_NAME
        if not plan.exists():
            _clear(self.folder, but=LOCK_NAME)
            write_atomically(plan, json.dumps(self._wanted, indent=1, allow_nan=False).encode())
            return
        try:
            self.plan = json.loads(plan.read_bytes())
            self._check_format()
            while self._record_path(self.num_segments).exists():
                self.num_segments += 1
            self.frames_done = sum(
                self._check_size(number, each).num_frames
                for number, each in enumerate(self.segments())
            )
            # Before the tensors are looked for: they may not have been moved yet.
            self.close_ahead()
            if self.num_segments:
                self.resumed()
        except (OSError, ValueError, TypeError, KeyError, BadZipFile) as error:
            raise OutputError(
                f"{self.folder}: the work of an earlier run is damaged ({error}); start over with "
                "--restart"
            ) from error
        # A part that was not closed counts for nothing: its frames are made again.
        self._drop_unfinished()
        if not self.num_segments and not (any(self._ahead()) and self._is_as_wanted()):
            # Nothing of worth is lost by another plan then.
            for folder in self._ahead():
                shutil.rmtree(folder)
            self.plan = self._wanted
            write_atomically(plan, json.dumps(self._wanted, indent=1, allow_nan=False).encode())
        assert self.plan is not None
        if changed := differences(self.plan[REQUESTED], self._wanted[REQUESTED]):
            raise UsageError(
                f"{self.folder} holds {self.frames_done} frames of a run with other options: "
                f"{'; '.join(changed[:3])}. Use the same options, or start over with --restart."
            )

    def _is_as_wanted(self) -> bool:
        assert self.plan is not None
        assert self._wanted is not None
        return not differences(self.plan[REQUESTED], self._wanted[REQUESTED])

    def _drop_unfinished(self) -> None:
        """Remove what an earlier process was writing when it was ended."""
        for path in self._ahead():
            first_frame = path.name.removeprefix(AHEAD_PREFIX)
            if path.suffix == PART_SUFFIX or int(first_frame) < self.frames_done:
                shutil.rmtree(path)
        closed = {self.segment_path(number, "").name for number in range(self.num_segments)}
        for path in self.folder.glob("segment-*"):
            if path.name.partition(".")[0] not in closed or path.suffix == PART_SUFFIX:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        parts = self.folder.glob(f".*{PART_SUFFIX}")
        for path in [*parts, *self.folder.glob(f"*{TENSORS_SUFFIX}")]:
            if path != self._tensors_path(self.num_segments - 1):
                path.unlink()

    def _check_format(self) -> None:
        # Without a closed segment nothing is lost, and the plan is simply replaced.
        found = self.plan.get("format", 1) if isinstance(self.plan, dict) else None
        if found != FORMAT and self._record_path(0).exists():
            raise UsageError(
                f"{self.folder} holds the work of another version of vsr (format {found}, expected "
                f"{FORMAT}): finish it with that version, or start over with --restart."
            )

    def _check_size(self, number: int, segment: ClosedSegment) -> ClosedSegment:
        path = self.segment_path(number, ".mkv")
        if segment.num_bytes and path.stat().st_size != segment.num_bytes:
            raise ValueError(f"{path.name} has changed its size")
        return segment

    def _record_path(self, number: int) -> Path:
        return self.segment_path(number, ".json")

    def _tensors_path(self, number: int) -> Path:
        return self.folder / f"{number:06d}{TENSORS_SUFFIX}"


def checkpoint_records(checkpoint: Checkpoint) -> Json:
    """The plain values of a checkpoint, as `ClosedSegment.states` has them."""
    return {
        stage: {"record": state.record, "log": dict(state.log)}
        for stage, state in checkpoint.states.items()
    }


def _read_segment(path: Path) -> ClosedSegment:
    values = json.loads(path.read_bytes())
    return ClosedSegment(**{**values, "times": tuple(map(tuple, values["times"]))})


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _of_stage(tensors: Mapping[str, torch.Tensor], stage: str) -> dict[str, torch.Tensor]:
    paths = {path: path.removeprefix(f"{stage}/") for path in tensors}
    return {name: tensors[path] for path, name in paths.items() if name != path}


def _write_through(path: Path, content: bytes) -> None:
    """Write a file to the disk, past its cache."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        flush_to_disk(file.fileno())


def work_folder(output: Path, options: WorkOptions) -> Path:
    """Path of the folder in which the work of an output is kept."""
    if options.folder is None:
        return hidden_sibling(output.absolute(), WORK_SUFFIX)
    return hidden_sibling(options.folder.absolute() / output.name, WORK_SUFFIX)


def _clear(folder: Path, but: str = "") -> None:
    """Remove what is in a folder."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != but:
            path.unlink()


def _leftover(folder: Path) -> Path:
    """Name of a work folder that is being removed."""
    return folder.with_name(f"{folder.name}{LEFTOVER_SUFFIX}")


def is_committed_result(output: Path, options: WorkOptions) -> bool:
    """Tell whether a run that kept its work here was ended after it had named its whole result, and
    before it had tidied up."""
    folder = work_folder(output, options)
    return any(_names(output, each / COMMIT_RECORD_NAME) for each in (folder, _leftover(folder)))


def _names(output: Path, record: Path) -> bool:
    """Tell whether a record is of this very file or folder."""
    try:
        name, inode = json.loads(record.read_bytes())
        # By the inode too: another file may have got that name since.
        return bool(name == output.name and output.stat().st_ino == inode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False


def differences(planned: Json, wanted: Json, path: str = "") -> list[str]:
    """List what two plans say differently, each as a sentence with the dotted name of the entry."""
    found: list[str] = []
    for key in [*planned, *(key for key in wanted if key not in planned)]:
        before, now = planned.get(key), wanted.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            found += differences(before, now, f"{path}{key}.")
        elif before != now:
            found.append(f"{path}{key} was {_format_value(before)} and is {_format_value(now)}")
    return found


def _format_value(value: object) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
