"""A run, in reading order: reader -> shots -> policy -> live metrics -> writer."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import torch

from vsr.alignment import Timeline
from vsr.checkpoints import Model, load_bank
from vsr.engine.device import choose_device
from vsr.errors import InputError, UsageError
from vsr.frames import ClipInfo, Frame
from vsr.manifest import Manifest, StageClock, peak_memory_bytes, versions
from vsr.metrics import beside_sharpness
from vsr.metrics.scoreboard import Scoreboard
from vsr.policies import MODEL_FREE, POLICIES, Decision, PolicyContext
from vsr.reader import ClipReader, open_clip
from vsr.recipe import Recipe, to_table
from vsr.resample import scaled_size
from vsr.shots import ShotFrames, split_shots
from vsr.writer import ClipWriter, WriteReport

LIVE_METRICS = ("flicker_live", "sharpness_live", "lr_psnr")
"""What a run measures unless metrics are named. They look at a sample of the frames, since the motion between two
frames takes most of the time in which one model makes one. Metrics that are named look at every frame."""
MEASURED_EVERY = 8
"""The sample: the first frame, the second, and every so many after that, each with the frame before it."""
COMPARED_METRICS = ("psnr_y", "ssim_y", "sharpness", "lpips", "warping_error", "flicker", "lr_psnr")
"""Of a comparison of policies, which has a truth."""


def _ignore(*_: object) -> None:
    """What is said to nobody."""


@dataclass(frozen=True)
class Listener:
    """Who hears of a run while it goes on."""

    say: Callable[[str], None] = _ignore
    """A sentence for the user."""
    advance: Callable[[int, int | None], None] = _ignore
    """Frames done, and how many there should be where the header says."""


def run(
    clip: str | Path,
    output: str | Path | None = None,
    *,
    recipe: Recipe = Recipe(),
    models: str | Path | None = None,
    reference: str | Path | None = None,
    overwrite: bool = False,
    listener: Listener = Listener(),
) -> Manifest:
    """Upscale a clip into `output` (default: `<stem>_x<scale><suffix>` beside it) and tell what was done.

    The output appears under its name only when it is whole. Raises a `VsrError` for what a user can mend.
    """
    _check(recipe, models)
    clock = StageClock()
    device = choose_device(recipe.device)
    notes: list[str] = []

    def say(note: str) -> None:
        notes.append(note)
        listener.say(note)

    with ExitStack() as stack:
        reader = stack.enter_context(open_clip(clip))
        height, width = scaled_size(reader.info.height, reader.info.width, recipe.scale)
        target = output_path(reader.info, recipe) if output is None else output
        writer = stack.enter_context(
            ClipWriter(target, reader.info, height, width, recipe.encode, overwrite=overwrite, device=device)
        )
        for note in (*reader.notes, *writer.notes):
            say(note)
        bank = [] if recipe.policy in MODEL_FREE else load_bank(Path(models or ""))
        upscaling = Upscaling(recipe, bank, device, reader, say)
        measuring = stack.enter_context(_measuring(recipe, reference, LIVE_METRICS))
        for low, large in upscaling.pairs(clock):
            with clock.apart("metrics"):
                measuring.observe(low, large)
            with clock.apart("write"):
                writer.write(large)
            listener.advance(large.index + 1, reader.info.num_frames_from_header)
        if not upscaling.frames_out:
            raise InputError(f"{clip} has no frame that can be decoded; nothing was written.")
        with clock.apart("write"):
            report = writer.finish()
    for note in (*report.notes, *measuring.remarks()):
        if note not in notes:
            say(note)
    return _manifest(reader, str(target), recipe, upscaling, measuring.board, report, notes, clock, device)


def compare(
    clip: str | Path,
    *,
    recipe: Recipe,
    models: str | Path | None = None,
    reference: str | Path,
    listener: Listener = Listener(),
) -> list[Manifest]:
    """Run each policy of `recipe.compare` on a clip and score it against its truth, before any encoding.

    Nothing is written. The manifests come in the recipe's order, each with the same metrics.
    """
    recipes = [replace(recipe, policy=policy) for policy in recipe.compare]
    for one in recipes:
        _check(one, models)
    device = choose_device(recipe.device)
    bank = load_bank(Path(models or "")) if set(recipe.compare) - MODEL_FREE else []
    manifests = []
    for one in recipes:
        clock = StageClock()
        listener.say(f"policy {one.policy}")
        with ExitStack() as stack:
            reader = stack.enter_context(open_clip(clip))
            upscaling = Upscaling(one, bank, device, reader, listener.say)
            measuring = stack.enter_context(_measuring(one, reference, COMPARED_METRICS))
            for low, large in upscaling.pairs(clock):
                with clock.apart("metrics"):
                    measuring.observe(low, large)
                listener.advance(large.index + 1, reader.info.num_frames_from_header)
        manifests.append(_manifest(reader, None, one, upscaling, measuring.board, None, [], clock, device))
    return manifests


def output_path(info: ClipInfo, recipe: Recipe) -> Path:
    """`<stem>_x<scale><suffix>` beside the clip; without the suffix for a folder of pictures.

    Raises `UsageError` for standard input and for a numbered pattern, which have no name of their own.
    """
    if str(info.path) == "-" or (info.container == "images" and not info.path.is_dir()):
        raise UsageError(f"the input {info.path} is not one file, so the result has no name yet: give it with -o OUT.")
    path = info.path.absolute()
    becomes_folder = path.is_dir() or recipe.encode.codec == "png"
    stem, suffix = (path.stem, path.suffix) if path.is_file() else (path.name, "")
    return path.with_name(f"{stem}_x{recipe.scale:g}{'' if becomes_folder else suffix}")


class Upscaling:
    """The middle of a run: frames of the clip go in, each comes out again beside its enlargement."""

    def __init__(
        self,
        recipe: Recipe,
        bank: Sequence[Model],
        device: torch.device,
        reader: ClipReader,
        say: Callable[[str], None],
    ) -> None:
        self.decisions: list[Decision] = []
        self.shot_starts: list[int] = []
        self.frames_in = 0
        self.frames_out = 0
        self._recipe = recipe
        self._device = device
        self._reader = reader
        self._say = say
        self._waiting: deque[Frame] = deque()
        context = PolicyContext(bank, recipe.scale, device, reader.info.identity, recipe.policies, self._decide)
        self._policy = POLICIES[recipe.policy](context)

    def pairs(self, clock: StageClock) -> Iterator[tuple[Frame, Frame]]:
        """(frame, the same frame enlarged), in order."""
        frames = clock.through("read", self._reader.frames())
        shots = split_shots(frames, self._recipe.shots)
        for large in clock.through("upscale", self._enlarged(shots)):
            low = self._waiting.popleft()
            assert low.pts == large.pts, "a policy must keep every frame and its time"
            self.frames_out += 1
            yield low, large
        assert not self._waiting, "a policy must keep every frame"

    def _enlarged(self, shots: Iterable[ShotFrames]) -> Iterator[Frame]:
        for shot in shots:
            self.shot_starts.append(shot.first_frame)
            yield from self._policy(self._remembered(shot.frames))

    def _remembered(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Frames on the run's device; each waits until its enlargement comes."""
        for frame in frames:
            moved = replace(frame, pixels=frame.pixels.to(self._device))
            self.frames_in += 1
            self._waiting.append(moved)
            yield moved

    def _decide(self, decision: Decision) -> None:
        self.decisions.append(decision)
        self._say(decision_words(decision))


def decision_words(decision: Decision) -> str:
    """One line that explains a decision."""
    names = decision.models
    shown = ", ".join(names) if len(names) <= 3 else f"{len(names)} models, {names[0]} to {names[-1]}"
    line = f"frame {decision.frame}: {shown} ({decision.reason}; back-projection {decision.agreement:.2f})"
    if decision.clearness is not None:
        ranking = ", ".join(f"{name} {score:.4f}" for name, score in decision.ranking[:3])
        line += f"; ranking {ranking}: the second is {100 * decision.clearness:.0f} % worse than the first"
    return line


@dataclass(frozen=True)
class _Measuring:
    """Scores frames before they are encoded; with a truth, only those that have one at their time."""

    board: Scoreboard
    reference: ClipReader | None
    truth: Timeline | None
    is_sample: bool
    unmatched: list[int]
    """Frames without a truth at their time."""

    def remarks(self) -> list[str]:
        """What the user ought to know of the truth, once all frames are measured."""
        if self.reference is None:
            return []
        path = self.reference.info.path
        lines = [f"the reference {path} is damaged: {damage}" for damage in self.reference.damage]
        if self.unmatched:
            count, first = len(self.unmatched), self.unmatched[0]
            lines.append(
                f"{count} frames, the first of them {first}, have no truth at their time in {path}: not scored"
            )
        return lines

    def observe(self, low: Frame, large: Frame) -> None:
        measured = not self.is_sample or large.index == 0 or large.index % MEASURED_EVERY == 1
        if self.truth is None:
            self.board.observe(large, None, low.pixels, measured=measured)
        elif (true := self.truth.take_nearest(large.seconds)) is not None:
            self.board.observe(large, true.pixels, low.pixels)
        else:
            self.unmatched.append(large.index)


@contextmanager
def _measuring(recipe: Recipe, reference: str | Path | None, default: Sequence[str]) -> Iterator[_Measuring]:
    with ExitStack() as stack:
        reader = None if reference is None else stack.enter_context(open_clip(reference))
        truth = None if reader is None else Timeline(reader.frames())
        names = default if recipe.metrics is None else recipe.metrics
        if reference is not None and recipe.metrics is None:
            names = [*default, *(name for name in ("lpips",) if name not in default)]
        board = Scoreboard(
            beside_sharpness(names, has_truth=truth is not None),
            has_truth=truth is not None,
            has_low_resolution=True,
            with_baseline=True,
        )
        yield _Measuring(board, reader, truth, reference is None and recipe.metrics is None, [])


def _check(recipe: Recipe, models: str | Path | None) -> None:
    if recipe.policy not in POLICIES:
        nearest = get_close_matches(recipe.policy, POLICIES, n=1, cutoff=0)[0]
        raise UsageError(f"unknown policy {recipe.policy}; did you mean {nearest}? Known: {', '.join(POLICIES)}.")
    if not 1 <= recipe.scale <= 16:
        raise UsageError(f"the scale is {recipe.scale:g}; expected a number from 1 to 16.")
    if recipe.policy not in MODEL_FREE and models is None:
        raise UsageError(
            f"policy {recipe.policy} needs a bank: --models DIR. Train one with vsr train-keyframe CLIP --models DIR."
        )


def _manifest(
    reader: ClipReader,
    output: str | None,
    recipe: Recipe,
    upscaling: Upscaling,
    board: Scoreboard,
    report: WriteReport | None,
    notes: list[str],
    clock: StageClock,
    device: torch.device,
) -> Manifest:
    used = [name for decision in upscaling.decisions for name in decision.models]
    return Manifest(
        clip=str(reader.info.path),
        clip_identity=reader.info.identity,
        output=output,
        frames_in=upscaling.frames_in,
        frames_out=report.frames_out if report else upscaling.frames_out,
        max_pts_error_seconds=report.max_pts_error_seconds if report else 0.0,
        resumed_at_frame=0,
        policy=recipe.policy,
        models=list(dict.fromkeys(used)),
        decisions=[asdict(decision) | {"clearness": decision.clearness} for decision in upscaling.decisions],
        shots=upscaling.shot_starts,
        streams_kept=list(report.streams_kept) if report else [],
        streams_dropped=list(report.streams_dropped) if report else [],
        damage=[str(damage) for damage in reader.damage],
        notes=notes,
        encoder=report.encoder if report else None,
        device=str(device),
        timings_seconds=clock.seconds(),
        peak_memory_bytes=peak_memory_bytes(),
        metrics={name: result.to_json() for name, result in board.results().items()},
        baseline={name: result.to_json() for name, result in (board.baseline_results() or {}).items()},
        recipe=to_table(recipe),
        command=sys.argv,
        versions=versions(),
    )
