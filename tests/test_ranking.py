import numpy as np
import pytest
from scipy.stats import bootstrap

from vsr.evaluate.ranking import MIN_FRAMES, Entry, block_frames, mean_interval, rank


def autoregression(count, correlation, seed, mean=0.0):
    random = np.random.default_rng(seed)
    values = [random.normal() / np.sqrt(1 - correlation**2)]
    for _ in range(count - 1):
        values.append(correlation * values[-1] + random.normal())
    return np.array(values) + mean


def contender(name, values):
    values = np.asarray(values, dtype=float)
    return Entry(name, float(values.mean()), dict(enumerate(values.tolist())))


def ranks(standings):
    return {standing.file: standing.rank for standing in standings}


def test_on_independent_values_the_interval_is_scipys():
    values = np.random.default_rng(1).exponential(size=200) - 0.9
    assert block_frames(values) <= 2
    ours = mean_interval(values)
    theirs = bootstrap(
        (values,), np.mean, method="percentile", n_resamples=5000, rng=2
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.15 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.15 * width)


@pytest.mark.parametrize(("count", "correlation"), [(12, 0.0), (100, 0.0), (100, 0.6), (400, 0.9)])
def test_the_interval_holds_the_true_mean_about_as_often_as_it_says(count, correlation):
    intervals = [mean_interval(autoregression(count, correlation, seed)) for seed in range(120)]
    held = np.mean([interval.holds_zero for interval in intervals])
    assert 0.86 <= held <= 1.0


def test_treating_correlated_frames_as_independent_would_be_far_too_sure():
    series = [autoregression(400, 0.9, seed) for seed in range(120)]
    naive = [
        abs(values.mean()) < 1.96 * values.std(ddof=1) / np.sqrt(len(values)) for values in series
    ]
    assert np.mean(naive) < 0.6 < np.mean([mean_interval(values).holds_zero for values in series])


def test_blocks_grow_with_the_correlation_and_never_beyond_a_quarter_of_the_frames():
    lengths = [block_frames(autoregression(400, correlation, 3)) for correlation in (0.0, 0.5, 0.9)]
    assert lengths[0] < lengths[1] < lengths[2] <= 100
    assert block_frames(np.linspace(0, 1, 40)) == 10
    assert block_frames(np.tile([0.0, 1.0], 20)) == 1


def test_too_few_values_have_no_interval():
    assert mean_interval(np.arange(MIN_FRAMES - 1.0)) is None


def test_the_same_values_give_the_same_interval():
    values = autoregression(50, 0.5, 0)
    assert mean_interval(values) == mean_interval(values.copy())


def test_equal_results_tie():
    values = autoregression(60, 0.5, 1)
    standings = rank([contender("a", values), contender("b", values)], higher_is_better=True)
    assert ranks(standings) == {"a": 1, "b": 1}
    assert standings[1].difference == 0


def test_a_difference_within_the_noise_is_a_tie_and_one_beyond_it_is_not():
    base = autoregression(100, 0.5, 1)
    noise = np.random.default_rng(5).normal(size=100)
    noise -= noise.mean()
    near, far = contender("near", base + noise - 0.02), contender("far", base + noise - 2)
    assert ranks(rank([far, near, contender("base", base)], higher_is_better=True)) == {
        "base": 1,
        "near": 1,
        "far": 3,
    }
    assert ranks(rank([far, contender("base", base)], higher_is_better=False)) == {
        "far": 1,
        "base": 2,
    }


def test_a_small_steady_difference_counts_though_the_clips_own_intervals_overlap():
    base = autoregression(100, 0.5, 1)
    worse = base - 0.01
    assert mean_interval(base).low < mean_interval(worse).high
    assert ranks(rank([contender("worse", worse), contender("base", base)], True)) == {
        "base": 1,
        "worse": 2,
    }


def test_of_equally_good_results_a_winner_is_seldom_named():
    wins = 0
    for seed in range(60):
        rivals = [contender(str(i), autoregression(80, 0.6, 10 * seed + i)) for i in range(4)]
        wins += {standing.rank for standing in rank(rivals, True)} != {1}
    assert wins <= 12


def test_results_are_compared_over_the_frames_that_all_have():
    easy_frames_only = Entry("easy", 40.0, dict.fromkeys(range(10), 40.0))
    all_frames = Entry(
        "all", 36.0, {**dict.fromkeys(range(10), 41.0), **dict.fromkeys(range(10, 20), 31.0)}
    )
    standings = rank([easy_frames_only, all_frames], higher_is_better=True)
    assert ranks(standings) == {"all": 1, "easy": 2}
    assert standings[1].difference == -1


def test_nobody_wins_by_a_figure_of_whole_clips_or_without_common_frames():
    assert ranks(rank([Entry("a", 1.0, None), Entry("b", 2.0, None)], False)) == {"a": 1, "b": 1}
    apart = [
        Entry("a", 1.0, dict.fromkeys(range(9), 1.0)),
        Entry("b", 2.0, dict.fromkeys(range(9, 18), 2.0)),
    ]
    assert ranks(rank(apart, False)) == {"a": 1, "b": 1}
