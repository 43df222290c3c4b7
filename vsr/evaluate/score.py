"""Scoring of finished clips in one pass over the clips that they are compared with.

The truth is the leader, whose frames set the times; without a truth the low-resolution input is,
and without either each result itself. Memory grows only with the figures.
"""

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path
from typing import Literal

from vsr.errors import UsageError
from vsr.evaluate.alignment import ProbedClip, Source, align, align_to_still, no_match_error
from vsr.evaluate.candidate import Candidate
from vsr.evaluate.diversity import DIVERSITY, SampleDiversity
from vsr.evaluate.reference import ReferenceClips, leader_frame_sets
from vsr.evaluate.results import ClipScores, Scores, rank_results
from vsr.metrics import possible_metrics, select_metrics, with_sharpness
from vsr.metrics.observation import FramePairCache
from vsr.metrics.scoreboard import Scoreboard
from vsr.progress import FrameProgress, ignore
from vsr.records import load_options, option
from vsr.video.align import Timeline
from vsr.video.frames import Frame
from vsr.video.reader import ReadOptions


@dataclass(frozen=True)
class ScoreOptions:
    """Choice of what is measured, and how."""

    metrics: tuple[str, ...] | None = option(
        None, "Metrics to measure; default: all that can be computed.", "--metrics", metavar="A,B"
    )
    border: int = option(0, "Pixels ignored at each side.", "--border", metavar="PX", at_least=0)
    flow: Literal["medium", "fast"] = option(
        "medium", "Preset of the optical flow; fast is less exact.", "--flow"
    )
    read: ReadOptions = ReadOptions()

    def board(self, given: Collection[str], shared: FramePairCache | None = None) -> Scoreboard:
        """Make the scoreboard of one result beside the given clips (`reference`, `low_resolution`).
        Raises UsageError for a metric that needs a clip that is missing."""
        return Scoreboard(
            self.metrics or (),
            has_truth="reference" in given,
            has_low_resolution="low_resolution" in given,
            border=self.border,
            with_baseline="low_resolution" in given,
            fast_flow=self.flow == "fast",
            shared=shared,
        )


def score_against_reference(
    results: Sequence[ProbedClip],
    others: dict[str, ProbedClip],
    options: ScoreOptions,
    diversity: SampleDiversity | None,
    progress: FrameProgress,
) -> list[ClipScores]:
    """Score results in one pass over the reference or, without one, over the low-resolution
    input."""
    # Results share the truth's luma and motion, the dearest part of measuring.
    shared = FramePairCache()
    boards = [options.board(others.keys(), shared) for _ in results]
    alignments = [align(result, others) for result in results]
    with ExitStack() as stack:
        clips = [stack.enter_context(result.open()) for result in results]
        candidates = [
            Candidate(clip, Timeline(clip.frames()), alignment, board)
            for clip, alignment, board in zip(clips, alignments, boards, strict=True)
        ]
        references = ReferenceClips(others, stack)
        for done, frame_set in enumerate(references.frame_sets(), start=1):
            frames = [candidate.match(frame_set) for candidate in candidates]
            if diversity is not None:
                diversity.update(
                    frame_set.leader.pixels,
                    [None if frame is None else frame.pixels for frame in frames],
                )
            progress(done, references.num_frames)
        scored = [
            candidate.scores(references.clocks, references.unmatched_frames())
            for candidate in candidates
        ]
        for clip in scored:
            if not clip.frame_indices:
                raise no_match_error(clip.file, *(probe.source for probe in others.values()))
        notes, damage = references.notes(), references.damage()
    return [replace(clip, notes=clip.notes + notes, damage=clip.damage + damage) for clip in scored]


def score_separately(
    result: ProbedClip,
    stills: dict[str, ProbedClip],
    options: ScoreOptions,
    progress: FrameProgress,
) -> ClipScores:
    """Score every frame by itself, or against the same pictures: those of a truth that is one
    picture, say."""
    board = options.board(stills.keys())
    pictures = {name: _only_frame(probe) for name, probe in stills.items()}
    alignment = align_to_still(result, stills, pictures)
    with result.open() as clip:
        # The result leads itself: its frames come once for the cuts and once to be measured.
        leading, own = tee(clip.frames())
        candidate = Candidate(clip, Timeline(own), alignment, board)
        for done, frame_set in enumerate(leader_frame_sets(leading), start=1):
            candidate.match(replace(frame_set, others=dict(pictures)))
            progress(done, clip.info.num_frames_expected)
        return candidate.scores({}, {})


def _only_frame(probe: ProbedClip) -> Frame:
    with probe.open() as clip:
        return next(clip.frames())


def score(
    results: Source | Sequence[Source],
    reference: Source | None = None,
    low_resolution: Source | None = None,
    *,
    # options of vsr score, by tools/write_signatures.py
    metrics: Sequence[str] | None = None,
    border: int = 0,
    flow: Literal["medium", "fast"] = "medium",
    on_damage: Literal["keep", "repeat", "stop"] = "keep",
    deinterlace: Literal["auto", "frame", "field", "film", "off"] = "auto",
    allow_huge: bool = False,
    stream: int | None = None,
    # end of options
    progress: FrameProgress | None = None,
) -> Scores:
    """Score one clip or several against a truth and/or their low-resolution input, and rank
    several.

    The other keywords are the options of the command, told in `ScoreOptions`. `diversity` of
    several results is a figure of the set. A truth of one picture stands for all frames. Raises
    UsageError for a request that cannot be met, InputError for clips that cannot be read or
    compared.
    """
    options = load_options(ScoreOptions, given=locals())
    results = [results] if isinstance(results, str | Path) else results
    return score_clips(results, reference, low_resolution, options, progress)


def score_clips(
    results: Sequence[Source],
    reference: Source | None,
    low_resolution: Source | None,
    options: ScoreOptions,
    progress: FrameProgress | None = None,
) -> Scores:
    """Do what `score` says, with its options as one value."""
    if not results:
        raise UsageError("nothing to score; name at least one result")
    if "-" in map(str, [*results, reference, low_resolution]):
        raise UsageError("clips to score are read more than once, so '-' cannot be one; give files")
    has_truth, has_low_resolution = reference is not None, low_resolution is not None
    names: Sequence[str] | None = options.metrics
    if names is None:
        names = possible_metrics(has_truth, has_low_resolution)
    if not names:
        raise UsageError(
            "nothing to measure; name at least one metric, or none for all that can be computed"
        )
    names = with_sharpness(names, has_truth)
    # Of several results the set has one figure, which no board of a single result could make.
    is_set = DIVERSITY in names and len(results) > 1 and has_truth
    diversity = SampleDiversity(options.border) if is_set else None
    of_each = tuple(name for name in names if not (is_set and name == DIVERSITY))
    # Before a clip is opened: reading hours of film must not end in a misspelled name.
    select_metrics(of_each, has_truth, has_low_resolution)
    options = replace(options, metrics=of_each)
    given = {"reference": reference, "low_resolution": low_resolution}
    others = {
        name: ProbedClip(source, options.read)
        for name, source in given.items()
        if source is not None
    }
    probes = [ProbedClip(result, options.read) for result in results]
    report_progress = progress or ignore
    is_still = all(probe.is_still for probe in others.values())
    # A film of pictures against one picture has no times to match: each frame meets the same one.
    if not others or (is_still and not all(probe.is_still for probe in probes)):
        scored = [score_separately(probe, others, options, report_progress) for probe in probes]
    else:
        scored = score_against_reference(probes, others, options, diversity, report_progress)
    true, low = (None if source is None else str(source) for source in (reference, low_resolution))
    scored = [
        replace(clip, reference=true, low_resolution=low, fast_flow=options.flow == "fast")
        for clip in scored
    ]
    return Scores(
        results=tuple(scored),
        ranking=rank_results(scored) if len(scored) > 1 else (),
        of_set={} if diversity is None else {DIVERSITY: diversity.compute()},
    )
