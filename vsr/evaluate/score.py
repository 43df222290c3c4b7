"""Scores finished clips in one pass over what they are compared with.

The truth leads, without one the low-resolution input, without either each result by itself. Memory does not grow with
the clips but for the figures themselves.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import tee
from pathlib import Path

from vsr.errors import UsageError
from vsr.evaluate.alignment import Look, Source, no_match, place, place_on_still
from vsr.evaluate.candidate import Entrant
from vsr.evaluate.diversity import DIVERSITY, SampleDiversity
from vsr.evaluate.reference import Lead, leading_instants, num_frames
from vsr.evaluate.results import ClipScores, Scores, rank_results
from vsr.metrics import beside_sharpness, possible_metrics, select_metrics
from vsr.metrics.cache import SharedSteps
from vsr.metrics.scoreboard import Scoreboard
from vsr.video.align import Timeline
from vsr.video.frames import Frame
from vsr.video.reader import open_clip

Progress = Callable[[int, int | None], None]
"""Told how many frames of the leading clip are done, and of how many; None where its header does not say."""


@dataclass(frozen=True)
class Measures:
    """What is to be measured, and how."""

    metrics: tuple[str, ...]
    border: int
    fast_flow: bool

    def board(self, given: Collection[str], shared: SharedSteps | None = None) -> Scoreboard:
        """For one result beside the given clips (`reference`, `low_resolution`); refuses metrics that lack theirs."""
        return Scoreboard(
            self.metrics,
            has_truth="reference" in given,
            has_low_resolution="low_resolution" in given,
            border=self.border,
            with_baseline="low_resolution" in given,
            fast_flow=self.fast_flow,
            shared=shared,
        )


def score_together(
    results: Sequence[Look],
    others: dict[str, Look],
    measures: Measures,
    diversity: SampleDiversity | None,
    progress: Progress,
) -> list[ClipScores]:
    """In one pass over the reference or, without one, over the low-resolution input."""
    shared = SharedSteps()
    boards = [measures.board(others.keys(), shared) for _ in results]
    placings = [place(result, others) for result in results]
    with ExitStack() as stack:
        clips = [stack.enter_context(open_clip(result.source)) for result in results]
        entrants = [
            Entrant(clip, Timeline(clip.frames()), placing, board)
            for clip, placing, board in zip(clips, placings, boards, strict=True)
        ]
        lead = Lead(others, stack)
        for done, instant in enumerate(lead.instants(), start=1):
            frames = [entrant.meet(instant) for entrant in entrants]
            if diversity is not None:
                diversity.observe(instant.leader.pixels, [None if frame is None else frame.pixels for frame in frames])
            progress(done, lead.num_frames)
        scored = [entrant.scores(lead.clocks, lead.untaken()) for entrant in entrants]
        for clip in scored:
            if not clip.frame_indices:
                raise no_match(clip.file, *(look.source for look in others.values()))
        notes, damage = lead.notes(), lead.damage()
    return [replace(clip, notes=clip.notes + notes, damage=clip.damage + damage) for clip in scored]


def score_alone(result: Look, stills: dict[str, Look], measures: Measures, progress: Progress) -> ClipScores:
    """Every frame by itself, or each against the same pictures: of a truth that is one picture, say."""
    board = measures.board(stills.keys())
    pictures = {name: _only_frame(look) for name, look in stills.items()}
    placing = place_on_still(result, stills, pictures)
    with open_clip(result.source) as clip:
        leading, own = tee(clip.frames())
        entrant = Entrant(clip, Timeline(own), placing, board)
        for done, instant in enumerate(leading_instants(leading), start=1):
            entrant.meet(replace(instant, others=dict(pictures)))
            progress(done, num_frames(clip.info))
        return entrant.scores({}, {})


def _only_frame(look: Look) -> Frame:
    with open_clip(look.source) as clip:
        return next(clip.frames())


def score(
    results: Source | Sequence[Source],
    reference: Source | None = None,
    low_resolution: Source | None = None,
    metrics: Sequence[str] | None = None,
    border: int = 0,
    *,
    fast_flow: bool = False,
    progress: Progress | None = None,
) -> Scores:
    """Score one clip or several against a truth and/or their low-resolution input, and rank several.

    `metrics` defaults to all that these allow; `diversity` of several results is a figure of the set. A truth of one
    picture stands for all frames. `fast_flow` estimates motion faster and less exactly.
    Raises UsageError for a request that cannot be met, InputError for clips that cannot be read or compared.
    """
    results = [results] if isinstance(results, str | Path) else results
    if not results:
        raise UsageError("nothing to score; name at least one result")
    if "-" in map(str, [*results, reference, low_resolution]):
        raise UsageError("clips to score are read more than once, so '-' cannot be one; give files")
    names = possible_metrics(reference is not None, low_resolution is not None) if metrics is None else metrics
    if not names:
        raise UsageError("nothing to measure; name at least one metric, or none for all that can be computed")
    names = beside_sharpness(names, reference is not None)
    is_set = DIVERSITY in names and len(results) > 1 and reference is not None
    diversity = SampleDiversity(border) if is_set else None
    measures = Measures(tuple(name for name in names if not (is_set and name == DIVERSITY)), border, fast_flow)
    select_metrics(measures.metrics, reference is not None, low_resolution is not None)
    given = {"reference": reference, "low_resolution": low_resolution}
    others = {name: Look(source) for name, source in given.items() if source is not None}
    looks = [Look(result) for result in results]
    told = progress or (lambda _done, _total: None)
    is_still = all(look.is_still for look in others.values())
    if not others or (is_still and not all(look.is_still for look in looks)):
        scored = [score_alone(look, others, measures, told) for look in looks]
    else:
        scored = score_together(looks, others, measures, diversity, told)
    true, low = (None if source is None else str(source) for source in (reference, low_resolution))
    scored = [replace(clip, reference=true, low_resolution=low, fast_flow=fast_flow) for clip in scored]
    return Scores(
        results=tuple(scored),
        ranking=rank_results(scored) if len(scored) > 1 else (),
        of_set={} if diversity is None else {DIVERSITY: diversity.result()},
    )
