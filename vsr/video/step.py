"""Steps, which flow through a run from the reader to the writer, and stages, which they pass.

A step carries its own context: its source, its shot and, at the end of a segment, the checkpoint
from which a later run can resume. So stages need no side tables.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Protocol

import torch

from vsr.image.blur import Blur
from vsr.image.degradation import CLEAN_SHOT, GaussianBlur, KnownDegradation
from vsr.video.frames import Frame

Json = dict[str, Any]


@dataclass(frozen=True)
class Degradation:
    """Estimates of a shot's degradation. Gray levels are of 255; None: not known."""

    qp: float | None = None
    """Mean quantizer on H.264's scale, from the stream."""
    earlier_qp: float | None = None
    """That of an encoder before the stream's own, told by the picture; None where none is seen, or
    the stream's is coarse itself."""
    noise_sigma: float = 0.0
    """Standard deviation of the camera noise of red, green and blue, in gray levels."""
    luma_noise_sigma: float = 0.0
    chroma_noise_sigma: float = 0.0
    """Noise of the color differences R - Y and B - Y, in gray levels."""
    noise_by_brightness: tuple[tuple[float, float], ...] = ()
    """Luma and the noise there, in gray levels."""
    blur: float | None = None
    """Standard deviation of the blur on its wider axis, in pixels of the frame; None where it is
    not blurred, or where the blur is unknown."""
    narrow_blur: float | None = None
    """That on its narrower axis."""
    blur_degrees: float | None = None
    """Direction of the wider axis, counter-clockwise from the right, 0 to 180."""
    interlaced: bool = False
    top_field_first: bool | None = None
    telecined: bool = False
    brightness_flicker: float = 0.0
    """Mean deviation of a frame's level from the mean of its neighbors', in gray levels."""
    dirt: float = 0.0
    """Share of the pixels that stand out on one frame alone."""

    @property
    def coarsest_qp(self) -> float | None:
        """The coarser of both quantizers."""
        return max((qp for qp in (self.qp, self.earlier_qp) if qp is not None), default=None)

    @property
    def gaussian_blur(self) -> GaussianBlur | None:
        """The blur, with its shape."""
        if self.blur is None or self.narrow_blur is None or self.blur_degrees is None:
            return None
        return GaussianBlur(self.blur, self.narrow_blur, self.blur_degrees)


@dataclass(frozen=True)
class Trust:
    """Limits of the trust in a shot's input: smaller residuals than these are not fed back.

    They are soft thresholds in the domain of the data term's transform, in gray levels; 0 trusts in
    full.
    """

    luma_threshold: float = 0.0
    chroma_threshold: float = 0.0
    """Threshold of the color differences R - Y and B - Y."""
    noise: float = 0.0
    """Standard deviation of noise of luma that is another in each frame, in gray levels; 0 where it
    is too little to count."""
    detail: float = 1.0
    """Share of the detail that a network of the clip's own makes: what it learned from and what it
    looks at are both coded."""
    detail_error: float = 0.0
    """Standard deviation of errors of coding in such detail, in gray levels: where there is little
    more than that, less is believed."""

    @property
    def is_full(self) -> bool:
        """Whether every residual is fed back, as by plain back-projection."""
        return self.luma_threshold <= 0 and self.chroma_threshold <= 0


FULL_TRUST = Trust()


@dataclass(frozen=True)
class Steadying:
    """The choices of flicker control for one shot."""

    first_frame: int
    strength: float
    """0 to 1; 0 leaves the shot alone."""
    back_projection_weight: float
    """Weight of the back-projection onto the source, 0 to 1."""
    target: float | None = None
    """Flicker over the source's own that the user asked for."""
    kernel: Blur | None = None
    """Blur that the back-projection goes through; None: bicubic."""
    trust: Trust = FULL_TRUST
    """Trust of that back-projection in the source."""


@dataclass(frozen=True, slots=True)
class ShotRef:
    """The shot that a frame lies in, and what stages have found out about it."""

    index: int
    """Position of the shot in the clip, from 0."""
    first_frame: int
    """Index of its first frame in the clip."""
    kernel: Blur | None = None
    """Blur that the shot's models were made for; None: bicubic."""
    steadying: Steadying | None = None
    """None where flicker control is off, and before it."""
    degradation: Degradation | None = None
    """None where nothing was looked at."""
    trust: Trust = FULL_TRUST
    """Trust of back-projection in the frames, by the degradation."""
    known: KnownDegradation = CLEAN_SHOT
    """Degradation as networks are told of it."""


@dataclass(frozen=True)
class State:
    """State of a stage after one frame: enough to resume there in another process."""

    record: Json = field(default_factory=dict)
    """Plain values for JSON."""
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    log: Mapping[str, list[Any]] = field(default_factory=dict)
    """Lists that only grow, such as decisions, by name. A checkpoint holds what was added since the
    one before; a restored state has all of it."""


@dataclass(frozen=True)
class Checkpoint:
    """The states of all stages at the last frame of a segment, by name of the stage."""

    states: Mapping[str, State] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One frame on its way."""

    frame: Frame
    """The source; behind the inspection on the run's device."""
    shot: ShotRef
    picture: torch.Tensor | None = None
    """The enlargement so far, float32 RGB (3, H, W) in [0, 1]; None before it is made."""
    upscaled: torch.Tensor | None = None
    """The picture before flicker control changed it, where that is to be measured."""
    is_done: bool = False
    """Written by an earlier run: stages look back at it, change nothing, and pass it on. The last
    of these has the picture that was written."""
    checkpoint: Checkpoint | None = None
    """Empty when it is read, at the end of a segment; each stage adds its state in passing."""

    @property
    def result(self) -> Frame:
        """The picture with the time and the transparency of its source."""
        assert self.picture is not None, "a policy makes a picture of every frame"
        return replace(self.frame, pixels=self.picture)


class Stage(Protocol):
    """A part of a run that steps pass through: upscaling, flicker control, measuring.

    As many steps come out as go in, in the same order.
    """

    name: str
    """Key of the stage in timings and in checkpoints."""

    @property
    def rewind(self) -> int:
        """Number of frames before the next that must come again after `restore`."""
        ...

    def through(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Work on steps; how many are read ahead is the stage's own affair."""
        ...

    def state(self) -> State:
        """The memory as of the step that `through` yielded last, however far it has read ahead."""
        ...

    def restore(self, state: State) -> None:
        """Restore the state taken after a frame, to resume there; called before `through`."""
        ...


def run_stage(stage: Stage, steps: Generator[Step, None, None]) -> Generator[Step, None, None]:
    """Pass steps through a stage, and have it add its state to the checkpoints that come by.

    The generator of a stage stands still while its step is in the hands of the next one, so the
    state is that of the step. Closing this closes `steps` as well.
    """
    logged = {name: len(entries) for name, entries in stage.state().log.items()}
    with closing(steps):
        for step in stage.through(steps):
            # Most steps end no segment: taking the state may cost a copy, so it is taken for the
            # others alone.
            if step.checkpoint is None:
                yield step
                continue
            state = stage.state()
            added = {name: entries[logged.get(name, 0) :] for name, entries in state.log.items()}
            logged = {name: len(entries) for name, entries in state.log.items()}
            states = {**step.checkpoint.states, stage.name: replace(state, log=added)}
            yield replace(step, checkpoint=Checkpoint(states))


def split_done(steps: Iterable[Step]) -> tuple[list[Step], Iterator[Step]]:
    """Split a stream into its first steps, as far as an earlier run has done them, and the rest."""
    iterator = iter(steps)
    done: list[Step] = []
    for step in iterator:
        if not step.is_done:
            return done, chain([step], iterator)
        done.append(step)
    return done, iter(())
