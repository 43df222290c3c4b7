"""A server of results: frames of another program's clip, asked for in any order.

Programs such as VapourSynth ask for frame 900 before frame 3. What a frame becomes depends on its
shot alone, so a shot is run from its first frame, or from a checkpoint within it, up to the frame
that is wanted. Finished frames and checkpoints are kept as long as there is room.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import RLock
from typing import Generic, TypeVar

import numpy as np
import torch

from vsr.engine.options import choose_device
from vsr.engine.tiling import limited_threads
from vsr.errors import InputError, UsageError
from vsr.image.resample import scaled_size
from vsr.pipeline.given import GivenPairs, check_source
from vsr.pipeline.live_metrics import LiveMetrics
from vsr.pipeline.options import Recipe, RunFiles, resolve_recipe, with_scale
from vsr.pipeline.profile import StageClock
from vsr.pipeline.session import (
    NoteLog,
    Session,
    choose_policy,
    load_models,
    make_stages,
    report_out_of_memory,
)
from vsr.progress import Listener
from vsr.restore.repair import NO_REPAIR, FilmRepair
from vsr.video.frames import ClipInfo, Frame
from vsr.video.reader import PartReader
from vsr.video.shots import mark_shots
from vsr.video.step import Checkpoint, State, Step
from vsr.video.write.segment_store import Resumed

CHECKPOINT_FRAMES = 24
"""Frames between two checkpoints of a shot: a seek makes at most so many others again."""
SOURCES_KEPT = 4
"""Source frames held: the search for cuts reads a few frames ahead of the run."""
CACHE_BYTES = 512 * 2**20
"""Room for finished frames and checkpoints, half for each."""

T = TypeVar("T")
Planes = Sequence[np.ndarray]
"""A finished frame in the form that the other program wants."""


@dataclass(frozen=True)
class FrameSource:
    """A clip of another program, whose frames can be read in any order, from any thread."""

    info: ClipInfo
    """Its size, and where it comes from; the path only serves messages."""
    num_frames: int
    read: Callable[[int], Frame]
    """Reads the frame with a number from 0. Its `index` is that number."""
    given: Callable[[int], torch.Tensor] | None = None
    """Reads what another upscaler has made of that frame, float32 RGB (3, H, W) in [0, 1]; None
    where the server is to enlarge."""
    given_size: tuple[int, int] | None = None
    """Height and width of that."""
    begins_shot: Callable[[int], bool] | None = None
    """Tells whether a frame is the first of a shot, where the program knows; None: cuts are looked
    for as in a run, in all frames before."""


def plain_planes(frame: Frame) -> Planes:
    """Return a frame as one array (3, H, W) of float32."""
    return [frame.pixels.numpy()]


class FrameServer:
    """Makes the frames of one clip that are asked for, equal to those of a run over all of it.

    Calls may come from several threads; one frame is made at a time. Nothing is trained or written.
    """

    def __init__(
        self,
        source: FrameSource,
        convert: Callable[[Frame], Planes] = plain_planes,
        *,
        models: str | Path | None = None,
        recipe: str | Path | None = None,
        settings: Sequence[str] = (),
        options: Mapping[str, object] | None = None,
        cache_bytes: int = CACHE_BYTES,
        listener: Listener = Listener(),
    ) -> None:
        """Check the request, and load the models of the bank `models`.

        `options` are those of `vsr.run`, or of `vsr.steady` where pictures are given, by keyword;
        `settings` and the file `recipe` are as there. `convert` makes of a finished frame, on the
        CPU, what is kept and handed out. Raises a `VsrError` for a user's mistake.
        """
        chosen = resolve_recipe(recipe, settings, options or {})
        if source.given is not None:
            chosen = replace(chosen, upscaler=None)
        if chosen.train == "auto" or chosen.train_ahead:
            raise UsageError(
                "nothing is trained on frames that another program hands over: train with "
                "vsr train-shot CLIP --models DIR, and name that folder."
            )
        chosen = with_scale(replace(chosen, train="never"), source.info)
        # The path of the given result stands for "something is given" alone.
        given = None if source.given is None else source.info.path
        files = RunFiles(models=models, low_resolution=given)
        policy = choose_policy(chosen, files, None, source.info)
        self.size = source.given_size or scaled_size(
            source.info.height, source.info.width, chosen.scale
        )
        """Height and width of the results."""
        if source.given is not None:
            _check_given_size(source.info, self.size)
        encode = replace(chosen.encode, segment_frames=CHECKPOINT_FRAMES)
        self._recipe = replace(chosen, policy=policy.name, encode=encode, metrics=())
        self._policy = policy
        self._device = choose_device(chosen.device)
        self._models = load_models(policy, chosen, models)
        self._convert, self._notes = convert, NoteLog(listener)
        self._source = replace(source, read=_recent(source.read))
        self._shots = _Shots(self._source, chosen)
        self._results: _Kept[Planes] = _Kept(cache_bytes // 2)
        self._checkpoints: _Kept[Resumed] = _Kept(cache_bytes // 2)
        self._line: _Line | None = None
        self._lock = RLock()

    def frame(self, index: int) -> Planes:
        """Make one frame, or find it again. Raises a `VsrError` for what a user can mend."""
        if not 0 <= index < self._source.num_frames:
            raise UsageError(f"frame {index} of a clip with {self._source.num_frames} frames.")
        with self._lock, limited_threads(self._recipe.threads), report_out_of_memory():
            if (known := self._results.find(index)) is not None:
                return known
            first = self._shots.first_of(index)
            try:
                return self._run_to(index, self._line_before(first, index))
            except BaseException:
                # A run that has failed makes no more frames; the next call begins another.
                self._line = None
                raise

    def begins_shot(self, index: int) -> bool:
        """Tell whether a frame is the first of its shot."""
        with self._lock:
            return self._shots.first_of(index) == index

    def _line_before(self, first: int, index: int) -> "_Line":
        """Find the run that has least to make up to a frame of the shot from `first`."""
        within = range(first, index + 1)
        kept = max((at for at in self._checkpoints.numbers() if at in within), default=first)
        line = self._line
        if line is None or line.first != first or line.next not in range(kept, index + 1):
            line = self._line = self._begin(first, self._checkpoints.find(kept) or Resumed(first))
        return line

    def _run_to(self, index: int, line: "_Line") -> Planes:
        for step in line.steps:
            result = step.result
            planes = self._convert(replace(result, pixels=result.pixels.cpu()))
            at, line.next = result.index, result.index + 1
            self._results.keep(at, planes, sum(plane.nbytes for plane in planes))
            if step.checkpoint is not None:
                line.add_states(step.checkpoint)
                # At the end of a shot there is nothing to go on with.
                if line.next < self._source.num_frames and not self.begins_shot(line.next):
                    resumed = Resumed(line.next, step.picture, line.states)
                    self._checkpoints.keep(line.next, resumed, _num_bytes(resumed))
            if at == index:
                return planes
        raise InputError(f"the clip ended before frame {index}.")

    def _begin(self, first: int, resumed: Resumed) -> "_Line":
        """Begin to run a shot, from its first frame or from a checkpoint on."""
        recipe = self._recipe

        # A shot that is run again would be told of again.
        def notify(note: str) -> None:
            self._notes.notify_all([note])

        stages = make_stages(
            recipe,
            self._policy,
            self._models,
            self._source.info,
            self._device,
            _Unmeasured((), None, lambda _: None, is_sample=True),
            notify,
        )
        for stage in stages:
            if stage.name in resumed.states:
                stage.restore(resumed.states[stage.name])
        is_given = self._source.given is not None
        repair = NO_REPAIR if is_given else recipe.repair.at_strength(recipe.restore_strength)
        session = Session(
            recipe,
            None,
            self._device,
            PartReader(self._source.info, () if is_given else self._frames(first)),
            GivenPairs(self._pairs(first)) if is_given else None,
            FilmRepair(repair, notify),
            stages,
            None,
            resumed,
            self._notes,
            StageClock(),
            known_shots=((0, first),),
            # Frames are read in the thread that asks: the program may have no other to spare.
            takes_turns=True,
        )
        return _Line(first, resumed.frames_done, session.steps(), dict(resumed.states))

    def _frames(self, first: int) -> Iterator[Frame]:
        """Read the frames of a shot."""
        for index in range(first, self._source.num_frames):
            if self._shots.first_of(index) != first:
                return
            frame = self._source.read(index)
            given = self._recipe.read.quantizer_step
            yield frame if given is None else replace(frame, quantizer_step=given)

    def _pairs(self, first: int) -> Iterator[tuple[Frame, torch.Tensor]]:
        """Read the frames of a shot with the pictures that were made of them."""
        assert self._source.given is not None
        for frame in self._frames(first):
            picture = self._source.given(frame.index)
            if frame.index == 0:
                check_source(picture, frame.pixels, "the enlarged clip", "its source")
            yield frame, picture


@dataclass
class _Line:
    """A run over one shot, which stands still between two frames that are asked for."""

    first: int
    """First frame of the shot."""
    next: int
    """The frame that comes next."""
    steps: Generator[Step, None, None]
    states: dict[str, State]
    """States of the stages at the last checkpoint, with the whole of their logs."""

    def add_states(self, checkpoint: Checkpoint) -> None:
        """Take over the states of a checkpoint, whose logs hold what is new."""
        states = dict(self.states)
        for name, state in checkpoint.states.items():
            earlier = states[name].log if name in states else {}
            log = {key: [*earlier.get(key, ()), *new] for key, new in state.log.items()}
            states[name] = replace(state, log=log)
        self.states = states


class _Shots:
    """Finds the shots of a clip, as far as they are asked for."""

    def __init__(self, source: FrameSource, recipe: Recipe) -> None:
        self._source, self._options = source, recipe.shots
        self._firsts: dict[int, int] = {}
        """First frame of the shot of each frame, by what the program knows."""
        self._begin()

    def _begin(self) -> None:
        frames = (self._source.read(index) for index in range(self._source.num_frames))
        self._marks = mark_shots(frames, self._options, lambda frame: frame)
        self._starts: list[int] = []
        """First frames of the shots that were found by looking."""
        self._num_seen = 0

    def first_of(self, index: int) -> int:
        """First frame of the shot that a frame lies in."""
        if self._source.begins_shot is not None:
            return self._told(self._source.begins_shot, index)
        try:
            while self._num_seen <= index:
                _, first, _ = next(self._marks)
                if not self._starts or self._starts[-1] != first:
                    self._starts.append(first)
                self._num_seen += 1
        except BaseException:
            # A search that a frame has ended finds no more; the next call looks from the start.
            self._begin()
            raise
        return self._starts[bisect_right(self._starts, index) - 1]

    def _told(self, begins_shot: Callable[[int], bool], index: int) -> int:
        first = index
        while first > 0 and first not in self._firsts and not begins_shot(first):
            first -= 1
        first = self._firsts.get(first, first)
        for each in range(index, first - 1, -1):
            if each in self._firsts:
                break
            self._firsts[each] = first
        return first


@dataclass
class _Kept(Generic[T]):
    """Things by frame number; those that were used longest ago go where there is no room."""

    most_bytes: int
    _items: OrderedDict[int, tuple[T, int]] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def numbers(self) -> Sequence[int]:
        """List the frame numbers."""
        return list(self._items)

    def find(self, index: int) -> T | None:
        """Find the thing of a frame, and take it for the newest."""
        if index not in self._items:
            return None
        self._items.move_to_end(index)
        return self._items[index][0]

    def keep(self, index: int, item: T, num_bytes: int) -> None:
        """Keep a thing of this size; the last one is kept however large it is."""
        _, before = self._items.pop(index, (None, 0))
        self._items[index] = item, num_bytes
        self._bytes += num_bytes - before
        while self._bytes > self.most_bytes and len(self._items) > 1:
            _, (_, freed) = self._items.popitem(last=False)
            self._bytes -= freed


class _Unmeasured(LiveMetrics):
    """Metrics of a run that nobody reads."""

    def update(self, step: Step) -> None:
        """Measure nothing."""


def _recent(read: Callable[[int], Frame]) -> Callable[[int], Frame]:
    """Remember the last frames that were read."""
    held: OrderedDict[int, Frame] = OrderedDict()

    def found(index: int) -> Frame:
        if index not in held:
            held[index] = read(index)
            if len(held) > SOURCES_KEPT:
                held.popitem(last=False)
        return held[index]

    return found


def _num_bytes(resumed: Resumed) -> int:
    tensors = [each for state in resumed.states.values() for each in state.tensors.values()]
    tensors += [] if resumed.picture is None else [resumed.picture]
    return sum(each.nbytes for each in tensors)


def _check_given_size(source: ClipInfo, size: tuple[int, int]) -> None:
    if size[0] < source.height or size[1] < source.width:
        raise InputError(
            f"the enlarged clip is {size[1]}x{size[0]}, smaller than its source with "
            f"{source.width}x{source.height}: name the enlarged clip first, its source second."
        )
