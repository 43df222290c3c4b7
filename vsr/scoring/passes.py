"""The passes over the clips: in time with what results are compared with, or by themselves."""

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import tee

from vsr.alignment import Timeline
from vsr.frames import Frame
from vsr.metrics.scoreboard import Scoreboard
from vsr.metrics.sharing import SharedSteps
from vsr.reader import open_clip
from vsr.scoring.entrant import Entrant
from vsr.scoring.lead import Lead, leading_instants, num_frames
from vsr.scoring.placing import Look, no_match, place, place_on_still
from vsr.scoring.samples import SampleDiversity
from vsr.scoring.scores import ClipScores

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
