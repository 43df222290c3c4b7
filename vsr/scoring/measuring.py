"""Scores finished clips in one pass over what they are compared with.

The truth leads, without one the low-resolution input, without either each result by itself. Memory does not grow with
the clips but for the figures themselves.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vsr.errors import UsageError
from vsr.metrics import beside_sharpness, possible_metrics, select_metrics
from vsr.scoring.comparing import rank_results
from vsr.scoring.passes import Measures, Progress, score_alone, score_together
from vsr.scoring.placing import Look, Source
from vsr.scoring.samples import DIVERSITY, SampleDiversity
from vsr.scoring.scores import Scores


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
