"""From the figures of several results to their rankings."""

from collections.abc import Iterator, Sequence

from vsr.scoring.ranking import Contender, Ranking, rank
from vsr.scoring.scores import ClipScores


def rank_results(results: Sequence[ClipScores]) -> tuple[Ranking, ...]:
    """By every metric; results whose figures come from different networks apart, those without a figure left out."""
    return tuple(ranking for metric in results[0].metrics for ranking in _rank_by(metric, results))


def _rank_by(metric: str, results: Sequence[ClipScores]) -> Iterator[Ranking]:
    scored = [clip for clip in results if clip.metrics[metric].mean is not None]
    networks = sorted({clip.metrics[metric].network or "" for clip in scored})
    for network in networks:
        group = [clip for clip in scored if (clip.metrics[metric].network or "") == network]
        label = metric if len(networks) == 1 else f"{metric} ({network})"
        places = rank([_contender(clip, metric) for clip in group], group[0].metrics[metric].higher_is_better)
        yield Ranking(metric, network or None, label, places)


def _contender(clip: ClipScores, metric: str) -> Contender:
    result = clip.metrics[metric]
    assert result.mean is not None, "only results with a figure compete"
    if result.per_frame is None:
        return Contender(clip.file, result.mean, None)
    values = zip(clip.partner_indices, result.per_frame, strict=True)
    return Contender(clip.file, result.mean, {index: value for index, value in values if value is not None})
