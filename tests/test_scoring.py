import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from skimage.metrics import peak_signal_noise_ratio

from tests.clips import moving_pictures, write_clip
from tests.measuring import full_disk
from vsr.errors import InputError, OutputError, UsageError
from vsr.evaluate import SUMMARY_ROWS, ClipScores, score, score_table, write_csv
from vsr.evaluate.results import rank_results
from vsr.image.dense_motion import motion_between
from vsr.metrics import METRICS, observation
from vsr.metrics.metric import Needs
from vsr.metrics.scoreboard import MetricResult, Scoreboard
from vsr.video.reader import ReadOptions, open_clip

LOSSLESS = {"codec": "ffv1", "pixel_format": "bgr0"}
TRUTH = moving_pictures(8, 48, 64)


def spoilt(pictures, grey_levels=6):
    """A copy with a known error: every frame off by its own amount, so that a wrong pairing
    shows."""
    return [
        np.clip(picture.astype(int) + grey_levels + i, 0, 255).astype(np.uint8)
        for i, picture in enumerate(pictures)
    ]


def psnrs(results, truths):
    return [
        peak_signal_noise_ratio(truth, result, data_range=255)
        for result, truth in zip(results, truths, strict=True)
    ]


@pytest.fixture
def truth_clip(tmp_path):
    return write_clip(tmp_path / "truth.mkv", TRUTH, **LOSSLESS)


@pytest.fixture
def low_clip(tmp_path):
    return write_clip(tmp_path / "low.mkv", [picture[::4, ::4] for picture in TRUTH], **LOSSLESS)


def score_one(result, truth, metrics=("psnr",)):
    return score([result], reference=truth, metrics=metrics).results[0]


def test_frames_of_equal_times_are_paired(tmp_path, truth_clip):
    result = write_clip(tmp_path / "result.mkv", spoilt(TRUTH), **LOSSLESS)
    scores = score_one(result, truth_clip)
    assert scores.metrics["psnr"].per_frame == pytest.approx(psnrs(spoilt(TRUTH), TRUTH), abs=1e-3)
    assert scores.frame_indices == tuple(range(8))
    assert scores.unmatched == {"result": (), "reference": ()}
    assert scores.notes == ()


@pytest.mark.parametrize("lost", [[3], [0], [7], [0, 1, 4]])
def test_frames_that_the_result_lost_are_left_out_and_named(tmp_path, truth_clip, lost):
    kept = [index for index in range(8) if index not in lost]
    pictures = [spoilt(TRUTH)[index] for index in kept]
    result = write_clip(tmp_path / "result.mkv", pictures, pts=kept, **LOSSLESS)
    scores = score_one(result, truth_clip)
    assert scores.metrics["psnr"].per_frame == pytest.approx(
        psnrs(pictures, [TRUTH[i] for i in kept]), abs=1e-3
    )
    assert scores.unmatched == {"result": (), "reference": tuple(lost)}


def test_frames_that_the_truth_lacks_are_left_out_and_named(tmp_path):
    kept = [0, 1, 3, 4, 6, 7]
    truth = write_clip(tmp_path / "truth.mkv", [TRUTH[i] for i in kept], pts=kept, **LOSSLESS)
    result = write_clip(tmp_path / "result.mkv", spoilt(TRUTH), **LOSSLESS)
    scores = score_one(result, truth)
    assert scores.frame_indices == tuple(kept)
    assert scores.unmatched == {"result": (2, 5), "reference": ()}
    expected = psnrs([spoilt(TRUTH)[i] for i in kept], [TRUTH[i] for i in kept])
    assert scores.metrics["psnr"].per_frame == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("delay", [1, 5, 100])
def test_a_result_that_starts_at_another_time_is_aligned_by_its_first_frame(
    tmp_path, truth_clip, delay
):
    pts = [delay + index for index in range(8)]
    result = write_clip(tmp_path / "result.mkv", spoilt(TRUTH), pts=pts, **LOSSLESS)
    scores = score_one(result, truth_clip)
    assert scores.metrics["psnr"].per_frame == pytest.approx(psnrs(spoilt(TRUTH), TRUTH), abs=1e-3)
    assert f"{-delay / 25:+.3f} s" in scores.notes[0]


def test_small_jitter_and_other_time_bases_do_not_matter(tmp_path, truth_clip):
    pts = [1000 * index // 25 + (7 if index % 2 else 0) for index in range(8)]
    result = write_clip(
        tmp_path / "result.mkv", spoilt(TRUTH), pts=pts, time_base=Fraction(1, 1000), **LOSSLESS
    )
    scores = score_one(result, truth_clip)
    assert scores.metrics["psnr"].per_frame == pytest.approx(psnrs(spoilt(TRUTH), TRUTH), abs=1e-3)


def test_variable_frame_rates_are_paired_by_time(tmp_path):
    pts = [0, 1, 4, 5, 9, 10, 12, 13]
    truth = write_clip(tmp_path / "truth.mkv", TRUTH, pts=pts, **LOSSLESS)
    result = write_clip(tmp_path / "result.mkv", spoilt(TRUTH)[1:], pts=pts[1:], **LOSSLESS)
    scores = score_one(result, truth)
    assert scores.metrics["psnr"].per_frame == pytest.approx(
        psnrs(spoilt(TRUTH)[1:], TRUTH[1:]), abs=1e-3
    )


def test_a_result_of_twice_the_rate_uses_each_true_frame_once(tmp_path, truth_clip):
    doubled = [picture for picture in spoilt(TRUTH) for _ in range(2)]
    result = write_clip(tmp_path / "result.mkv", doubled, time_base=Fraction(1, 50), **LOSSLESS)
    scores = score_one(result, truth_clip)
    assert scores.frame_indices == tuple(range(0, 16, 2))
    assert scores.unmatched["result"] == tuple(range(1, 16, 2))


def test_a_truth_a_few_pixels_larger_is_cropped_and_that_is_said(tmp_path, truth_clip):
    pictures = [picture[:44, :60] for picture in spoilt(TRUTH)]
    result = write_clip(tmp_path / "result.mkv", pictures, **LOSSLESS)
    scores = score_one(result, truth_clip)
    expected = psnrs(pictures, [picture[:44, :60] for picture in TRUTH])
    assert scores.metrics["psnr"].per_frame == pytest.approx(expected, abs=1e-3)
    assert "60x44" in scores.notes[0]
    assert "64x48" in scores.notes[0]


def test_another_size_is_refused_naming_both(truth_clip, low_clip):
    with pytest.raises(InputError, match=r"16x12.*64x48"):
        score_one(low_clip, truth_clip)


def test_one_result_gives_the_contracts_object(tmp_path, truth_clip):
    result = write_clip(tmp_path / "result.mkv", TRUTH, **LOSSLESS)
    found = json.loads(
        json.dumps(
            score([result], truth_clip, metrics=["psnr", "flicker"]).to_json(), allow_nan=False
        )
    )
    assert found["file"] == str(result)
    assert found["frames"] == 8
    assert found["metrics"]["psnr"] == {
        "mean": 100.0,
        "higher_is_better": True,
        "unit": "dB",
        "per_frame": [100.0] * 8,
    }
    assert found["metrics"]["flicker"]["per_frame"] == [None] + [0.0] * 7
    assert "sharpness" in found["metrics"], "a flicker figure stands beside a sharpness figure"
    assert "baseline" not in found


def test_the_exact_form_of_the_spectrum_stands_beside_its_figure(truth_clip):
    shown = io.StringIO()
    Console(width=400, file=shown).print(
        score_table(score([truth_clip], reference=truth_clip, metrics=["spectrum"]))
    )
    assert "log10(1 + |F|^2), F the FFT of BT.601 luma" in " ".join(shown.getvalue().split())


def test_several_results_are_ranked_by_every_metric(tmp_path, truth_clip):
    good = write_clip(tmp_path / "good.mkv", spoilt(TRUTH, 2), **LOSSLESS)
    bad = write_clip(tmp_path / "bad.mkv", spoilt(TRUTH, 20), **LOSSLESS)
    jumpy = [
        np.clip(picture.astype(int) + 4 * (i % 2), 0, 255).astype(np.uint8)
        for i, picture in enumerate(TRUTH)
    ]
    unsteady = write_clip(tmp_path / "unsteady.mkv", jumpy, **LOSSLESS)
    found = score([bad, good, unsteady], truth_clip, metrics=["psnr", "flicker"]).to_json()
    assert [result["file"] for result in found["results"]] == [str(bad), str(good), str(unsteady)]
    ranking = json.loads(json.dumps(found["ranking"], allow_nan=False))
    assert ranking["psnr"]["order"] == [str(unsteady), str(good), str(bad)]
    assert ranking["flicker"]["groups"][-1] == [str(unsteady)]
    assert ranking["psnr"]["against_first"][str(bad)]["difference"] < 0


def test_equal_results_tie_whatever_their_order(tmp_path, truth_clip):
    one = write_clip(tmp_path / "one.mkv", spoilt(TRUTH), **LOSSLESS)
    other = write_clip(tmp_path / "other.mkv", spoilt(TRUTH), **LOSSLESS)
    scores = score([one, other], truth_clip, metrics=["psnr", "flicker"])
    assert [ranking.groups for ranking in scores.ranking] == [((str(one), str(other)),)] * 3
    console = Console(width=160, record=True)
    console.print(score_table(scores))
    assert console.export_text().count("#1=") == 6


def test_figures_of_different_networks_are_ranked_apart_and_missing_ones_not_at_all():
    def clip(file, mean, network):
        lpips = MetricResult(mean, False, "1", None, network=network)
        return ClipScores(file, (0,), (0.0,), {"lpips": lpips}, None, {}, (), ())

    def files(clips):
        return {
            entry.label: [standing.file for standing in entry.standings]
            for entry in rank_results(clips)
        }

    clips = [
        clip("a", 0.3, "alex"),
        clip("b", 0.1, "squeeze"),
        clip("c", 0.2, "alex"),
        clip("d", None, None),
    ]
    assert files(clips) == {"lpips (alex)": ["c", "a"], "lpips (squeeze)": ["b"]}
    same = [
        replace(clip, metrics={"lpips": replace(clip.metrics["lpips"], network="alex")})
        for clip in clips
    ]
    assert files(same) == {"lpips": ["b", "c", "a"]}


def test_a_low_resolution_input_brings_the_bicubic_baseline(tmp_path, truth_clip, low_clip):
    result = write_clip(tmp_path / "result.mkv", TRUTH, **LOSSLESS)
    scores = score([result], truth_clip, low_clip, metrics=["psnr", "flicker", "sharpness"])
    figures, baseline = scores.results[0].metrics, scores.results[0].baseline
    assert baseline.keys() == figures.keys()
    assert baseline["psnr"].mean < figures["psnr"].mean
    assert baseline["sharpness"].mean < 1 == figures["sharpness"].mean
    assert "baseline" in scores.to_json()
    console = Console(width=160, record=True)
    console.print(score_table(scores))
    printed = console.export_text()
    assert "bicubic baseline" in printed
    assert f"{baseline['flicker'].mean:.4f}" in printed
    assert "flicker (grey levels, lower is better)" in printed


def test_by_default_all_that_can_be_computed_is_computed(
    tmp_path, truth_clip, low_clip, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("VSR_WEIGHTS", raising=False)
    without_truth = score([truth_clip], low_resolution=low_clip).results[0].metrics
    assert set(without_truth) == {
        "lr_psnr",
        "warping_error",
        "sharpness_live",
        "flicker_live",
        "niqe",
        "brisque",
    }
    with_truth = score([truth_clip], truth_clip).results[0].metrics
    assert with_truth["lpips"].mean is None
    assert "VSR_WEIGHTS" in with_truth["lpips"].reason
    assert with_truth["tof"].mean == 0


def test_the_table_of_frames_has_a_row_per_frame_and_an_empty_cell_for_no_value(
    tmp_path, truth_clip, low_clip
):
    result = write_clip(tmp_path / "result.mkv", TRUTH, **LOSSLESS)
    scores = score([result], truth_clip, low_clip, metrics=["psnr", "flicker", "sharpness"])
    write_csv(scores, tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["file", "frame", "seconds", "psnr", "flicker", "sharpness"]
    assert [row[1] for row in rows] == [str(index) for index in range(8)] * 2
    assert rows[0] == [str(result), "0", "0.0", "100.0", "", "1.0"]
    assert float(rows[1][2]) == pytest.approx(0.04)
    assert rows[8][0].endswith("(bicubic baseline)")


def test_a_table_that_cannot_be_written_is_an_output_error(tmp_path, truth_clip):
    scores = score([truth_clip], truth_clip, metrics=["psnr"])
    with pytest.raises(OutputError, match="missing"):
        write_csv(scores, tmp_path / "missing" / "scores.csv")


def printed(table):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_a_summary_has_ten_rows_perceptual_figures_first_and_one_line_for_what_is_missing(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("VSR_WEIGHTS", str(tmp_path))
    pictures = moving_pictures(2, 200, 208)
    truth = write_clip(tmp_path / "truth.mkv", pictures, **LOSSLESS)
    result = write_clip(tmp_path / "result.mkv", spoilt(pictures), **LOSSLESS)
    text = printed(score_table(score([result], reference=truth), SUMMARY_ROWS))
    rows = [line.split()[1] for line in text.splitlines() if " is better)" in line]
    assert rows[:5] == ["vif", "haarpsi", "niqe", "flicker", "sharpness"]
    assert len(rows) == 10
    assert "niqe (weak, lower is better)" in text
    missing = [line for line in text.splitlines() if line.startswith("not measured")]
    assert len(missing) == 1
    assert "lpips, dists" in missing[0]
    assert "fid" in missing[0]
    assert "vsr weights" in missing[0]
    assert "tof" in next(line for line in text.splitlines() if "measured as well" in line)
    alone = printed(score_table(score([result]), SUMMARY_ROWS))
    rows = [line.split()[1] for line in alone.splitlines() if " is better)" in line]
    assert rows == ["niqe"]


def test_named_metrics_are_all_in_the_table(tmp_path, truth_clip):
    names = [
        name
        for name, metric in METRICS.items()
        if metric.needs is Needs.TRUTH and not metric.weights
    ]
    text = printed(score_table(score([truth_clip], reference=truth_clip, metrics=names)))
    assert len(names) > 10
    assert all(f" {name} (" in text for name in names if name not in ("ms_ssim", "tof"))


def test_on_a_full_disk_the_table_of_frames_stays_as_it_was(tmp_path, truth_clip):
    scores = score([truth_clip], truth_clip, metrics=["psnr"])
    path = tmp_path / "scores.csv"
    path.write_text("before")
    with full_disk(), pytest.raises(OutputError, match="cannot be written"):
        write_csv(scores, path)
    assert path.read_text() == "before"


def test_a_table_for_a_device_leaves_it_a_device(tmp_path, truth_clip):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    scores = score([truth_clip], truth_clip, metrics=["psnr"])
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_csv(scores, pipe)
    assert os.read(reading, 4096).startswith(b"file,frame")
    os.close(reading)
    assert pipe.is_fifo()


def test_clips_are_read_as_the_options_say(tmp_path):
    combed = [picture.copy() for picture in TRUTH]
    for before, picture in zip(TRUTH, combed[1:], strict=False):
        picture[1::2] = before[1::2]
    result = write_clip(tmp_path / "combed.mkv", combed, **LOSSLESS)
    truth = write_clip(tmp_path / "truth.mkv", TRUTH, **LOSSLESS)
    options = ReadOptions(deinterlace="frame")
    with open_clip(result, options) as one, open_clip(truth, options) as other:
        pictures = [[frame.pixels for frame in clip.frames()] for clip in (one, other)]
    clean, combed_scores = (
        score([result], truth, metrics=["psnr"], deinterlace=deinterlace).results[0]
        for deinterlace in ("frame", "off")
    )
    # The older field is in the odd lines: whole frames show the truth's frame before theirs.
    pairs = list(zip(pictures[0][1:], pictures[1], strict=False))
    expected = [min(100, float(-10 * ((a - b) ** 2).mean().log10())) for a, b in pairs]
    assert clean.frame_indices == tuple(range(1, 8))
    assert clean.metrics["psnr"].per_frame == pytest.approx(expected, abs=1e-3)
    assert combed_scores.metrics["psnr"].mean < clean.metrics["psnr"].mean


def test_progress_tells_how_many_frames_of_how_many_are_done(tmp_path, truth_clip):
    told = []
    score(
        [truth_clip] * 2,
        truth_clip,
        metrics=["psnr"],
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(count, 8) for count in range(1, 9)]


def test_requests_that_cannot_be_met_are_refused(truth_clip):
    with pytest.raises(UsageError, match="--reference"):
        score([truth_clip], metrics=["psnr"])
    with pytest.raises(UsageError, match="at least one metric"):
        score([truth_clip], truth_clip, metrics=[])
    with pytest.raises(UsageError, match="at least one result"):
        score([], truth_clip)
    with pytest.raises(UsageError, match="did you mean 'psnr'"):
        score([truth_clip], truth_clip, metrics=["pnsr"])
    with pytest.raises(UsageError, match="'lr_psnr' needs the low-resolution input"):
        score([truth_clip], truth_clip, metrics=["lr_psnr"])
    with pytest.raises(UsageError, match="'-'"):
        score(["-"], truth_clip)


@pytest.mark.parametrize(
    ("clip", "decibels"), [("calendar", 20.4), ("city", 25.2), ("foliage", 23.5), ("walk", 26.1)]
)
def test_bicubic_on_vid4_scores_what_the_literature_says(shared_data, clip, decibels):
    folder = shared_data / "clips" / "vid4"
    board = Scoreboard(
        ["psnr_y"], has_truth=True, has_low_resolution=True, border=8, with_baseline=True
    )
    with (
        open_clip(folder / f"{clip}_hr.mkv") as truths,
        open_clip(folder / f"{clip}_lrx4.mkv") as lows,
    ):
        for truth, low in islice(zip(truths.frames(), lows.frames(), strict=True), 12):
            board.update(truth, truth.pixels, low.pixels)
    assert board.compute()["psnr_y"].mean == 100
    assert board.compute_baseline()["psnr_y"].mean == pytest.approx(decibels, abs=0.25)


def test_a_name_with_brackets_or_bytes_that_are_no_text_is_shown_and_written(tmp_path, truth_clip):
    odd = tmp_path / "[" / os.fsdecode(b"b] caf\xe9.mkv")
    odd.parent.mkdir()
    truth_clip.rename(odd)
    scores = score(odd, reference=odd, metrics=["psnr"])
    # Strict as standard output is: a lone surrogate cannot be written.
    with io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict") as shown:
        Console(width=240, file=shown).print(score_table(scores))
        shown.seek(0)
        assert "[/b] caf\\udce9.mkv" in shown.read()
    write_csv(scores, tmp_path / "scores.csv")
    assert "[/b] caf\\udce9.mkv,0," in (tmp_path / "scores.csv").read_text(encoding="utf-8")


def test_several_results_share_what_is_worked_out_of_the_truth(
    tmp_path, truth_clip, low_clip, monkeypatch
):
    estimated = []

    def counted(*pictures):
        estimated.append(pictures)
        return motion_between(*pictures)

    results = [write_clip(tmp_path / f"{i}.mkv", spoilt(TRUTH, i), **LOSSLESS) for i in range(5)]
    names = ["warping_error", "flicker", "flicker_live", "sharpness", "lr_psnr"]
    alone = [score([result], truth_clip, low_clip, metrics=names).results[0] for result in results]
    monkeypatch.setattr(observation, "motion_between", counted)
    together = score(results, truth_clip, low_clip, metrics=names).results
    assert len(estimated) == 2 * 7, (
        "once for each pair of frames of the truth and of the enlarged input"
    )
    assert [clip.metrics for clip in together] == [clip.metrics for clip in alone]
    assert [clip.baseline for clip in together] == [clip.baseline for clip in alone]


def test_clips_are_scored_without_anything_to_compare_with(
    tmp_path, truth_clip, shared_data, monkeypatch
):
    monkeypatch.setenv("VSR_WEIGHTS", str(shared_data / "metric-params"))
    big = [
        write_clip(tmp_path / f"{i}.mkv", spoilt(moving_pictures(7, 208, 208), i), **LOSSLESS)
        for i in (0, 60)
    ]
    scores = score(big, metrics=["brisque"])
    assert [len(clip.metrics["brisque"].per_frame) for clip in scores.results] == [7, 7]
    assert all(clip.partners == {} for clip in scores.results)
    assert {standing.file for standing in scores.ranking[0].standings} == set(map(str, big))


def test_the_fast_flow_is_said(tmp_path, truth_clip):
    result = write_clip(tmp_path / "result.mkv", spoilt(TRUTH), **LOSSLESS)
    scores = score([result], truth_clip, metrics=["warping_error"], flow="fast")
    assert scores.to_json()["flow"] == "fast"
    console = Console(width=160, record=True)
    console.print(score_table(scores))
    assert "--flow fast" in console.export_text()


@pytest.fixture
def squeeze_weights(shared_data, monkeypatch):
    monkeypatch.setenv("VSR_WEIGHTS", str(shared_data / "weights"))
    monkeypatch.setenv("TORCH_HOME", "/nonexistent")


def test_diversity_of_several_results_is_that_of_the_set_frame_by_frame(
    tmp_path, truth_clip, squeeze_weights
):
    left, right = [picture.copy() for picture in TRUTH], [picture.copy() for picture in TRUTH]
    for one, other in zip(left, right, strict=True):
        one[:, :32] = 255 - one[:, :32]
        other[:, 32:] = 255 - other[:, 32:]
    halves = [
        write_clip(tmp_path / f"{name}.mkv", some, **LOSSLESS)
        for name, some in (("l", left), ("r", right))
    ]
    scores = score(halves, truth_clip, metrics=["psnr", "diversity"])
    assert len(scores.of_set["diversity"].per_frame) == 8
    assert scores.of_set["diversity"].mean > 50
    assert "diversity" not in scores.results[0].metrics
    assert scores.to_json()["set"]["diversity"]["network"] == "squeeze"
    same = score([halves[0], halves[0]], truth_clip, metrics=["diversity"])
    assert same.of_set["diversity"].mean == 0


def test_a_folder_of_samples_is_compared_with_one_picture(tmp_path, squeeze_weights):
    folder = tmp_path / "samples"
    folder.mkdir()
    samples = spoilt([TRUTH[0]] * 4)
    for number, picture in enumerate(samples):
        Image.fromarray(picture).save(folder / f"{number}.png")
    Image.fromarray(TRUTH[0]).save(tmp_path / "truth.png")
    scores = score(folder, tmp_path / "truth.png", metrics=["psnr", "diversity"]).results[0]
    assert scores.metrics["psnr"].per_frame == pytest.approx(
        psnrs(samples, [TRUTH[0]] * 4), abs=1e-3
    )
    assert scores.metrics["diversity"].mean is not None
    assert any("every frame" in note for note in scores.notes)


@pytest.mark.parametrize("options", [["--json", "same", "--csv", "same"], ["--csv", "-"]])
def test_records_that_would_lose_each_other_are_refused(tmp_path, options):
    command = [
        sys.executable,
        "-c",
        "from vsr.cli import main; main()",
        "score",
        "a.mkv",
        "--reference",
        "b.mkv",
    ]
    done = subprocess.run(
        [*command, *options], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []
