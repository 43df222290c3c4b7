"""The page: what it chooses to show, what it holds, and how it behaves in a real browser."""

import base64
import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.clips import moving_pictures, write_clip
from vsr import cli
from vsr.errors import InputError, OutputError, UsageError
from vsr.evaluate import score
from vsr.evaluate.images import data_uri
from vsr.evaluate.report import MAX_IMAGE_BYTES, write_page, write_run_page, write_score_page
from vsr.evaluate.report.content import (
    Cell,
    Curve,
    FigureTable,
    ReportContent,
    Role,
    TableRow,
    Version,
    by_number,
    compared_versions,
)
from vsr.evaluate.report.data import NUM_BINS, encode_moments, frequencies, radial_power_db
from vsr.evaluate.report.document import render, safe_json
from vsr.evaluate.report.frames import MomentFrames, ReportFrames, collect_frames
from vsr.evaluate.report.moments import (
    LOOP_FRAMES,
    MAX_MOMENTS,
    SLICE_FRAMES,
    Box,
    Moment,
    busiest_box,
    busiest_column,
    choose_moments,
    decimate,
    difference,
    num_moments,
)
from vsr.pipeline import run as pipeline
from vsr.pipeline.options import Recipe, RunFiles

MAX_PAGE_BYTES = 15_000_000
HOSTILE = "<img src=x onerror=\"document.title='taken'\">{{ 7 * 7 }}&amp;.mkv"


def lossless(path, pictures, **options):
    return write_clip(path, pictures, codec="ffv1", pixel_format="bgr0", **options)


def slow_shots(count, height, width):
    """Two shots of a slow pan, so that the cut stands out of the motion."""
    first, second = (
        moving_pictures(count // 2, height, width, (0.1, 0.2), seed) for seed in (1, 2)
    )
    return first + [picture // 3 for picture in second]


def curve(metric="psnr", higher=True, **values):
    return Curve(
        metric, "dB", higher, {label: np.array(line, dtype=float) for label, line in values.items()}
    )


def subject(versions, num_frames, curves=(), **changes):
    row = TableRow("psnr", "dB, higher is better", (Cell("30.0000", "29 to 31"),))
    fields = {
        "title": "a page",
        "versions": tuple(versions),
        "leader": 0,
        "frames": tuple(range(num_frames)),
        "curves": tuple(curves),
        "table": FigureTable((versions[0].label,), (row,), "a caption"),
        "notes": (),
        "record": {},
    }
    return ReportContent(**fields | changes)


def data_of(page):
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="page-data">(.*?)</script>', text, re.S).group(1))


def decoded(uri):
    stored = base64.b64decode(uri.removeprefix("data:image/webp;base64,"))
    return cv2.imdecode(np.frombuffer(stored, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


# What is chosen


def test_moments_are_where_the_versions_lie_furthest_apart():
    apart = np.ones(100)
    apart[[20, 70]] = 5, 9
    moments = choose_moments(range(100), [curve(a=np.zeros(100), b=apart)], 2)
    assert [moment.frame for moment in moments] == [20, 70]
    assert moments[0].reason == "the versions differ most in psnr"


def test_a_single_result_is_shown_where_it_is_poorest():
    values = np.full(60, 30.0)
    values[41] = 20
    for higher, frames in ((True, [41]), (False, [0])):
        values = values if higher else np.where(np.arange(60) == 0, 40.0, 30.0)
        moments = choose_moments(range(60), [curve(a=values, higher=higher)], 1)
        assert [moment.frame for moment in moments] == frames


def test_moments_keep_apart_and_a_metric_of_large_numbers_does_not_drown_the_others():
    large = np.random.default_rng(0).uniform(1000, 1001, 300)
    spike = np.ones(300)
    spike[123] = 50
    curves = [curve("large", a=np.zeros(300), b=large), curve("small", a=np.zeros(300), b=spike)]
    frames = [moment.frame for moment in choose_moments(range(300), curves, 6)]
    assert 123 in frames
    assert len(frames) == 6
    assert min(np.diff(frames)) >= 300 // (2 * 6)


def test_without_figures_moments_are_spread_evenly():
    frames = [moment.frame for moment in choose_moments(range(60), [], 3)]
    assert frames == [10, 30, 50]


def test_windows_stay_within_the_clip_and_hold_the_frame():
    for length in (1, 5, 30, 400):
        values = np.arange(length, dtype=float)
        for moment in choose_moments(range(length), [curve(a=values * 0, b=values)], 6):
            for window, size in ((moment.loop, LOOP_FRAMES), (moment.time_slice, SLICE_FRAMES)):
                assert len(window) == min(size, length)
                assert 0 <= window.start <= moment.frame < window.stop <= length


def test_a_page_of_many_versions_shows_fewer_moments():
    assert num_moments(3) == MAX_MOMENTS
    assert num_moments(10) == 3
    assert num_moments(100) == 1


def test_thinning_keeps_every_spike_and_the_length_within_bounds():
    values = np.zeros(15_000)
    values[[77, 9_000]] = 8, -3
    values[100:200] = np.nan
    kept = decimate(values, 1000)
    assert len(kept) <= 1000
    assert {77, 9_000} <= set(kept)
    assert not np.isnan(values[kept]).any()


def test_the_busiest_box_is_that_of_an_exhaustive_search():
    apart = np.random.default_rng(3).random((23, 31)).astype(np.float32)
    sums = {
        (top, left): apart[top : top + 7, left : left + 9].sum()
        for top in range(17)
        for left in range(23)
    }
    box = busiest_box(apart, 7, 9)
    assert (box.top, box.left) == max(sums, key=sums.get)
    assert busiest_box(apart, 100, 100) == Box(0, 0, 23, 31)


def test_the_busiest_column_goes_through_the_one_place_that_differs():
    one, other = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60, 3), np.uint8)
    other[10:14, 33] = 200
    column = busiest_column(difference([one, other]), 16)
    assert (column.left, column.width, column.height) == (33, 1, 16)
    assert column.top <= 10
    assert column.top + 16 >= 14


# The spectrum


def test_a_wave_has_its_power_at_its_own_fineness():
    rows, columns = np.mgrid[:128, :128]
    for frequency in (0.1, 0.3):
        wave = 127.5 + 100 * np.cos(2 * np.pi * frequency * (0.6 * rows + 0.8 * columns))
        picture = np.repeat(wave[..., None], 3, axis=2).astype(np.uint8)
        power = radial_power_db([picture])
        assert abs(frequencies()[np.nanargmax(power)] - frequency) <= 0.5 / NUM_BINS


def test_the_power_of_white_noise_is_its_variance_at_every_fineness():
    noise = np.random.default_rng(0).normal(128, 10, (256, 256)).round().astype(np.uint8)
    power = radial_power_db([np.repeat(noise[..., None], 3, axis=2)])
    np.testing.assert_allclose(power[8:], 10 * np.log10(noise.astype(float).var()), atol=1.0)


# What is read


def test_the_pictures_loops_and_slices_are_the_frames_that_they_say(tmp_path):
    gray = [np.full((20, 24, 3), 10 * number, np.uint8) for number in range(20)]
    clip = lossless(tmp_path / "steps.mkv", gray)
    brighter = lossless(tmp_path / "brighter.mkv", [picture + 3 for picture in gray])
    moment = Moment(7, range(6, 14), range(2, 18), "a test")
    versions = [Version("a", str(clip), Role.RESULT), Version("b", str(brighter), Role.RESULT)]
    (sample,) = collect_frames(versions, 0, [moment]).samples
    for place, more in ((0, 0), (1, 3)):
        assert (sample.pictures[place] == 70 + more).all()
        assert [crop[0, 0, 0] for crop in sample.loops[place]] == [
            10 * number + more for number in range(6, 14)
        ]
        assert list(sample.slices[place][5, :, 1]) == [
            10 * number + more for number in range(2, 18)
        ]


def test_frames_that_were_matched_by_number_lie_on_each_other_and_missing_ones_are_grey(tmp_path):
    pictures = [np.full((16, 16, 3), 10 * number, np.uint8) for number in range(12)]
    whole = lossless(tmp_path / "whole.mkv", pictures)
    dropped = lossless(tmp_path / "dropped.mkv", pictures[:5] + pictures[6:])
    numbers = {number: number - (number > 5) for number in range(12) if number != 5}
    versions = [
        Version("whole", str(whole), Role.TRUTH),
        Version("dropped", str(dropped), Role.RESULT, by_number(numbers)),
    ]
    (sample,) = collect_frames(
        versions, 0, [Moment(8, range(3, 11), range(0, 12), "a test")]
    ).samples
    assert (sample.pictures[1] == 80).all()
    assert [crop[0, 0, 0] for crop in sample.loops[1]] == [30, 40, 128, 60, 70, 80, 90, 100]


def test_a_frame_that_only_the_input_has_leaves_the_result_grey(tmp_path):
    low = lossless(tmp_path / "low.mkv", moving_pictures(10, 16, 24))
    large = lossless(tmp_path / "large.mkv", moving_pictures(9, 32, 48))
    versions = [
        Version("bicubic", str(low), Role.ENLARGED),
        Version(
            "result",
            str(large),
            Role.RESULT,
            by_number({number: number - 1 for number in range(1, 10)}),
        ),
    ]
    (sample,) = collect_frames(
        versions, 0, [Moment(0, range(0, 8), range(0, 10), "a test")]
    ).samples
    assert [picture.shape for picture in sample.pictures] == [(32, 48, 3)] * 2
    assert (sample.pictures[1] == 128).all()
    np.testing.assert_array_equal(sample.loops[1][1], moving_pictures(9, 32, 48)[0])


def test_a_cut_off_edge_is_left_off_all(tmp_path):
    picture = moving_pictures(1, 32, 48)[0]
    truth = lossless(tmp_path / "truth.mkv", [picture] * 9)
    result = lossless(tmp_path / "result.mkv", [picture[3:, 2:]] * 9)
    versions = [
        Version("result", str(result), Role.RESULT),
        Version("truth", str(truth), Role.TRUTH, crop_top_px=3, crop_left_px=2),
    ]
    (sample,) = collect_frames(versions, 0, [Moment(4, range(0, 8), range(0, 9), "a test")]).samples
    np.testing.assert_array_equal(sample.pictures[0], sample.pictures[1])


def test_a_small_page_keeps_pictures_without_loss(tmp_path):
    pictures = moving_pictures(10)
    clip = lossless(tmp_path / "clip.mkv", pictures)
    write_page(subject([Version("a", str(clip), Role.RESULT)], 10), tmp_path / "page.html")
    for moment in data_of(tmp_path / "page.html")["moments"]:
        np.testing.assert_array_equal(decoded(moment["pictures"][0]), pictures[moment["frame"]])
        first, count = moment["loopFrames"]
        top, left, height, width = moment["box"]
        strip = decoded(moment["loops"][0]).reshape(count, height, width, 3)
        for number, crop in enumerate(strip, start=first):
            np.testing.assert_array_equal(
                crop, pictures[number][top : top + height, left : left + width]
            )


# Size


def noisy_sample(height, width, num_versions, seed):
    noise = np.random.default_rng(seed).integers(
        0, 256, (num_versions, height, width, 3), dtype=np.uint8
    )
    loops = np.repeat(noise[:, None, :24, :24], 8, axis=1)
    return MomentFrames(
        Moment(0, range(0, 8), range(0, 32), ""),
        pictures=list(noise),
        loops=loops,
        slices=noise[:, :24, :32],
    )


@pytest.mark.parametrize("max_bytes", [40_000, 150_000, 1_000_000])
def test_pictures_of_noise_fit_the_room_that_there_is(max_bytes):
    samples = [noisy_sample(120, 160, 2, seed) for seed in range(2)]
    encoded, _ = encode_moments(samples, max_bytes)
    total = sum(len(uri) for one in encoded for uri in (*one.pictures, *one.loops, *one.slices))
    assert total <= max_bytes
    assert len(encoded) == 2


def test_more_room_gives_better_pictures():
    sample = noisy_sample(120, 160, 1, 0)
    errors = []
    for max_bytes in (40_000, 200_000):
        (encoded,), _ = encode_moments([sample], max_bytes)
        shown = decoded(encoded.pictures[0])
        enlarged = cv2.resize(shown, (160, 120), interpolation=cv2.INTER_NEAREST)
        errors.append(np.abs(enlarged.astype(float) - sample.pictures[0]).mean())
    assert errors[1] < errors[0]


def long_subject(versions, num_frames):
    """Twenty metrics that all jump about, a cut every four seconds, a record with every frame in
    it."""
    rng = np.random.default_rng(0)
    labels = [version.label for version in versions]
    curves = [
        curve(f"metric {n}", **{label: rng.normal(size=num_frames) for label in labels})
        for n in range(20)
    ]
    record = {
        "frame_indices": list(range(num_frames)),
        "metrics": {"psnr": {"per_frame": [0.1] * num_frames}},
    }
    return subject(
        versions, num_frames, curves, cuts=tuple(range(100, num_frames, 100)), record=record
    )


def test_a_page_of_ten_minutes_leaves_room_for_its_pictures():
    versions = [Version(label, "clip.mkv", Role.RESULT) for label in ("a", "b", "c", "d")]
    samples = [noisy_sample(64, 64, 4, seed) for seed in range(MAX_MOMENTS)]
    encoded, storage = encode_moments(samples, MAX_IMAGE_BYTES)
    pictures = sum(len(uri) for one in encoded for uri in (*one.pictures, *one.loops, *one.slices))
    seconds = [number / 25 for number in range(15_000)]
    page = render(long_subject(versions, 15_000), ReportFrames(samples, seconds), encoded, storage)
    assert len(page.encode()) - pictures + MAX_IMAGE_BYTES < MAX_PAGE_BYTES


@pytest.mark.slow
def test_the_page_of_a_clip_of_ten_minutes_stays_under_fifteen_megabytes(tmp_path):
    still = moving_pictures(1, 16, 16)[0]
    clip = write_clip(
        tmp_path / "long.mp4", [still] * 15_000, codec_options={"preset": "ultrafast"}
    )
    write_page(long_subject([Version("a", str(clip), Role.RESULT)], 15_000), tmp_path / "page.html")
    assert len(data_of(tmp_path / "page.html")["moments"]) == MAX_MOMENTS
    assert (tmp_path / "page.html").stat().st_size < MAX_PAGE_BYTES


# Safety


def test_json_in_the_page_cannot_end_its_element():
    value = {"name": "</script><!-- ]]> & \u2028 é"}
    text = safe_json(value)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value


def test_a_picture_is_stored_as_it_is():
    picture = moving_pictures(1)[0]
    np.testing.assert_array_equal(decoded(data_uri(picture, 101)), picture)


def test_a_page_that_fails_leaves_the_old_one(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("old")
    with pytest.raises(InputError):
        write_page(subject([Version("a", str(tmp_path / "gone.mkv"), Role.RESULT)], 4), page)
    assert page.read_text() == "old"
    clip = lossless(tmp_path / "clip.mkv", moving_pictures(4))
    with pytest.raises(OutputError, match="page"):
        write_page(
            subject([Version("a", str(clip), Role.RESULT)], 4), tmp_path / "no folder" / "page.html"
        )
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", "clip.mkv"}


# Runs and scores


def test_the_page_of_a_run_shows_input_result_and_truth(tmp_path):
    pictures = slow_shots(20, 64, 96)
    truth = lossless(tmp_path / "truth.mkv", pictures)
    low = lossless(
        tmp_path / "low.mkv",
        [cv2.resize(p, (24, 16), interpolation=cv2.INTER_AREA) for p in pictures],
    )
    recipe = Recipe(policy="lanczos", metrics=("psnr", "lr_psnr"))
    manifest = pipeline.run(low, recipe, RunFiles(tmp_path / "large.mkv", reference=truth))
    write_run_page(manifest, tmp_path / "page.html", truth)
    data = data_of(tmp_path / "page.html")
    assert [version["role"] for version in data["versions"]] == ["enlarged", "result", "truth"]
    assert data["cuts"] == [0.4]
    psnr = data["curves"][0]
    assert psnr["metric"] == "psnr"
    assert psnr["lines"][0]["values"] == pytest.approx(
        manifest.metrics["psnr"]["per_frame"], rel=1e-4
    )
    moment = data["moments"][0]
    np.testing.assert_array_equal(decoded(moment["pictures"][2]), pictures[moment["frame"]])


def test_a_run_through_a_pipe_has_no_page(tmp_path):
    clip = lossless(tmp_path / "clip.mkv", moving_pictures(8))
    manifest = pipeline.run(
        clip, Recipe(policy="bicubic", metrics=()), RunFiles(tmp_path / "large.mkv")
    )
    with pytest.raises(UsageError, match="pipe"):
        write_run_page(type(manifest)(**vars(manifest) | {"output": "-"}), tmp_path / "page.html")


def test_clips_without_anything_to_compare_with_have_a_page_too(tmp_path):
    pictures = moving_pictures(12, 64, 96)
    clips = [
        lossless(tmp_path / "a.mkv", pictures),
        lossless(tmp_path / "b.mkv", [p // 2 for p in pictures]),
    ]
    scores = score([str(clip) for clip in clips], metrics=["brisque"])
    write_score_page(scores, tmp_path / "page.html")
    data = data_of(tmp_path / "page.html")
    assert [version["label"] for version in data["versions"]] == ["a.mkv", "b.mkv"]
    moment = data["moments"][0]
    np.testing.assert_array_equal(decoded(moment["pictures"][1]), pictures[moment["frame"]] // 2)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A page of two results, one of a hostile name, that lost a frame and was cut; with truth and
    input."""
    folder = tmp_path_factory.mktemp("page") / "a<"
    (folder / "script>").mkdir(parents=True)
    pictures = slow_shots(24, 128, 192)
    truth = lossless(folder / "truth.mkv", pictures)
    low = lossless(
        folder / "low.mkv",
        [cv2.resize(p, (48, 32), interpolation=cv2.INTER_AREA) for p in pictures],
    )
    noise = np.random.default_rng(0)
    noisy = [np.clip(p + noise.normal(0, 8, p.shape), 0, 255).astype(np.uint8) for p in pictures]
    times = [number for number in range(24) if number != 9]
    result = lossless(folder / "script>" / HOSTILE, [noisy[time][2:] for time in times], pts=times)
    blurred = lossless(folder / "blurred.mkv", [cv2.GaussianBlur(p, (0, 0), 2) for p in pictures])
    scores = score(
        [str(result), str(blurred)],
        reference=truth,
        low_resolution=low,
        metrics=["psnr", "sharpness"],
    )
    page = folder.parent / "page.html"
    write_score_page(scores, page)
    return page


def test_the_page_of_scores_counts_frames_as_the_truth_does(scored):
    data = data_of(scored)
    labels = [version["label"] for version in data["versions"]]
    assert labels == ["bicubic", HOSTILE, "blurred.mkv", "truth"]
    psnr = {labels[line["version"]]: line["frames"] for line in data["curves"][0]["lines"]}
    assert psnr["blurred.mkv"] == list(range(24))
    assert psnr[HOSTILE] == [number for number in range(24) if number != 9]
    assert data["cuts"] == [0.48]
    truth = slow_shots(24, 128, 192)
    for moment in data["moments"]:
        shown = decoded(moment["pictures"][3]).astype(int)
        assert shown.shape == (126, 192, 3)
        errors = {
            (n, top): np.abs(shown - truth[n][top : top + 126]).mean()
            for n in range(24)
            for top in range(3)
        }
        assert min(errors, key=errors.get) == (moment["frame"], 2)


def test_the_table_marks_only_who_wins_beyond_the_noise(scored):
    text = scored.read_text(encoding="utf-8")
    rows = re.findall(r"<tr><th scope=\"row\">(\w+)<small>.*?</tr>", text)
    assert rows == ["psnr", "sharpness"]
    assert text.count('<td class="best">') == 2


def test_moments_are_chosen_by_the_results_where_there_are_several():
    roles = [Role.ENLARGED, Role.RESULT, Role.RESULT, Role.TRUTH]
    versions = [Version(role.value + str(place), "", role) for place, role in enumerate(roles)]
    assert compared_versions(versions) == [1, 2]
    assert compared_versions(versions[:2]) == [1, 0]
    assert compared_versions([versions[1], versions[3]]) == [0, 1]
    assert compared_versions([versions[1]]) == [0]
    lines = {version.label: np.zeros(4) for version in versions[:3]}
    (left,) = subject(versions, 4, [Curve("psnr", "dB", True, lines)]).compared_curves()
    assert list(left.values) == ["result1", "result2"]


def test_the_commands_write_the_page(tmp_path):
    pictures = moving_pictures(8)
    clip = lossless(
        tmp_path / "clip.mkv",
        [cv2.resize(p, (24, 16), interpolation=cv2.INTER_AREA) for p in pictures],
    )
    truth = lossless(tmp_path / "truth.mkv", pictures)
    large, page = tmp_path / "large.mkv", tmp_path / "page.html"
    run = [
        "run",
        str(clip),
        "-o",
        str(large),
        "-s",
        "2",
        "--policy",
        "bicubic",
        "--metrics",
        "lr_psnr",
    ]
    command = CliRunner()
    assert command.invoke(cli.app, [*run, "--report", str(page)]).exit_code == 0
    assert [version["role"] for version in data_of(page)["versions"]] == ["enlarged", "result"]
    scoring = [
        "score",
        str(large),
        "--reference",
        str(truth),
        "--metrics",
        "psnr",
        "--html",
        str(page),
    ]
    assert command.invoke(cli.app, scoring).exit_code == 0
    assert [version["role"] for version in data_of(page)["versions"]] == ["result", "truth"]
    piped = command.invoke(cli.app, ["run", "-", *run[2:], "-y", "--report", str(page)], input="")
    assert isinstance(piped.exception, UsageError)


# In a browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the browser tests need playwright"
    )
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("the browser tests need Debian's chromium (apt-get install chromium)")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=executable)
        yield chromium
        chromium.close()


SIZES = {"wide": {"width": 1280, "height": 900}, "narrow": {"width": 390, "height": 844}}


@pytest.fixture(scope="module", params=SIZES)
def page_and_complaints(request, browser, scored):
    """The page, opened from disk once for all tests, and what it logged or asked for."""
    context = browser.new_context(viewport=SIZES[request.param], color_scheme="light")
    page = context.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
    page.on(
        "request",
        lambda asked: None if asked.url.startswith("data:") else complaints.append(asked.url),
    )
    page.goto(scored.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    yield page, complaints
    context.close()


@pytest.fixture
def opened(page_and_complaints, scored):
    """The page as it is at first; a test fails when the page logs anything or asks for anything but
    itself."""
    page, complaints = page_and_complaints
    page.evaluate(
        "play(false); chooseView('slider'); zoomTo(1); byId('slider').value = 50; showMoment(0)"
    )
    page.wait_for_selector("#loops[data-frame]")
    yield page
    assert complaints == [scored.as_uri()]


def pixels_of(page, selector):
    return page.evaluate(f"document.querySelector('{selector}').toDataURL()")


def test_the_slider_moves_by_mouse_and_keyboard(opened):
    left = opened.locator("#left-layer")
    slider = opened.locator("#slider")
    assert left.evaluate("e => e.style.clipPath") == "inset(0px 50% 0px 0px)"
    slider.focus()
    for _ in range(4):
        opened.keyboard.press("ArrowRight")
    assert left.evaluate("e => e.style.clipPath") == "inset(0px 48% 0px 0px)"
    box = opened.locator("#stage").bounding_box()
    opened.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    assert float(slider.input_value()) == pytest.approx(25, abs=1)
    divider = opened.locator("#divider").bounding_box()
    assert divider["x"] + 1 == pytest.approx(box["x"] + box["width"] / 4, abs=3)


def test_both_sides_show_what_is_chosen(opened):
    opened.select_option("#left-version", label="truth")
    moment = data_of_page(opened)["moments"][0]
    assert opened.get_attribute("#left-picture", "src") == moment["pictures"][3]
    assert opened.text_content("#left-tag") == "truth"
    assert opened.evaluate("document.getElementById('left-picture').decode().then(() => true)")


def data_of_page(page):
    return json.loads(page.text_content("#page-data"))


def test_zoom_is_one_for_all_pictures(opened):
    opened.locator("#stage").focus()
    for key in ("+", "+", "+", "ArrowRight", "ArrowDown"):
        opened.keyboard.press(key)
    placed = "e => e.style.transform"
    left, right = (
        opened.locator(f"#{side}-picture").evaluate(placed) for side in ("left", "right")
    )
    assert left == right
    assert "scale(3.375)" in left
    opened.get_by_role("button", name="Side by side").click()
    tiles = opened.locator("#grid-view img").evaluate_all("all => all.map(e => e.style.transform)")
    assert len(tiles) == 4
    assert len(set(tiles)) == 1
    opened.locator("#zoom-level").click()
    assert opened.text_content("#zoom-level") == "Fit"


def test_the_flip_steps_plays_and_stops(opened):
    first, count = data_of_page(opened)["moments"][0]["loopFrames"]
    before = pixels_of(opened, "#loops canvas")
    opened.click("#step")
    assert opened.get_attribute("#loops", "data-frame") == str(first + 1)
    assert pixels_of(opened, "#loops canvas") != before
    opened.select_option("#loop-length", "2")
    opened.click("#step")
    opened.click("#step")
    assert opened.get_attribute("#loops", "data-frame") == str(first)
    assert pixels_of(opened, "#loops canvas") == before
    opened.select_option("#loop-length", str(count))
    opened.select_option("#loop-speed", "2")
    opened.click("#play")
    opened.wait_for_selector(f"#loops[data-frame='{first + 1}']")
    opened.click("#play")
    assert opened.get_attribute("#play", "aria-pressed") == "false"


def test_a_slice_picture_is_drawn_for_every_version(opened):
    slices = opened.locator("#slices canvas")
    assert slices.count() == 4
    assert len({slices.nth(place).evaluate("e => e.toDataURL()") for place in range(4)}) == 4


def test_a_click_on_the_curve_and_arrow_keys_choose_the_nearest_moment(opened):
    moments = data_of_page(opened)["moments"]
    chosen = "#moments button[aria-checked=true]"
    plot = opened.locator("#curve-plot")
    plot.scroll_into_view_if_needed()
    area = opened.locator("#curve-plot .nsewdrag").first.bounding_box()
    opened.mouse.move(area["x"] + area["width"] * 0.9, area["y"] + area["height"] / 2)
    opened.mouse.click(area["x"] + area["width"] * 0.95, area["y"] + area["height"] / 2)
    opened.wait_for_selector("#moments button:last-child[aria-checked=true]")
    assert f"Frame {moments[-1]['frame']}" in opened.text_content("#moment-words")
    assert opened.get_attribute("#right-picture", "src") == moments[-1]["pictures"][1]
    plot.focus()
    opened.keyboard.press("ArrowLeft")
    assert (
        opened.locator(chosen).evaluate("e => [...e.parentNode.children].indexOf(e)")
        == len(moments) - 2
    )
    opened.keyboard.press("[")
    assert (
        opened.locator(chosen).evaluate("e => [...e.parentNode.children].indexOf(e)")
        == len(moments) - 3
    )


def test_cuts_are_marked_and_another_metric_can_be_drawn(opened):
    dashed = opened.locator("#curve-plot .shapelayer path").evaluate_all(
        "all => all.filter(e => e.style.strokeDasharray && e.style.strokeDasharray != '0px').length"
    )
    assert dashed == 1
    before = opened.locator("#curve-plot .scatterlayer").first.inner_html()
    opened.select_option("#metric", label="sharpness")
    assert opened.locator("#curve-plot .scatterlayer").first.inner_html() != before


def test_light_and_dark_follow_the_system_and_the_button(opened):
    paper = "getComputedStyle(document.body).backgroundColor"
    grid = "getComputedStyle(document.querySelector('#curve-plot .gridlayer path')).stroke"
    light = opened.evaluate(f"[{paper}, {grid}]")
    opened.emulate_media(color_scheme="dark")
    opened.wait_for_selector("html[data-theme=dark]")
    dark = opened.evaluate(f"[{paper}, {grid}]")
    assert light[0] != dark[0]
    assert light[1] != dark[1]
    opened.click("#theme")
    assert opened.evaluate(f"[{paper}, {grid}]") == light


def test_names_are_shown_as_they_are_and_never_run(opened):
    assert HOSTILE in opened.title()
    assert opened.text_content("h1") == f"{HOSTILE}, blurred.mkv"
    assert "a</script>" in opened.text_content("#record pre")
    assert opened.locator("img[src]:not([src^='data:image/webp'])").count() == 0


def test_nothing_sticks_out_at_the_side(opened):
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_control_can_be_reached_by_keyboard_and_has_a_name(opened):
    unnamed = opened.evaluate(
        """[...document.querySelectorAll('button, select, input')]
           .filter(e => !(e.ariaLabel || e.textContent.trim() || e.closest('label')))
           .map(e => e.id)"""
    )
    assert unnamed == []
    reached = set()
    for _ in range(40):
        opened.keyboard.press("Tab")
        reached.add(opened.evaluate("document.activeElement.id"))
    assert {
        "theme",
        "left-version",
        "right-version",
        "stage",
        "slider",
        "play",
        "step",
        "metric",
        "curve-plot",
    } <= reached


def test_the_page_forbids_itself_the_network(browser, scored):
    asked = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)

    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    page = browser.new_page()
    refused = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(scored.as_uri())
    page.evaluate(
        """address => {
            document.body.append(Object.assign(new Image(), { src: address + "image" }));
            const script = (fields) => Object.assign(document.createElement("script"), fields);
            document.body.append(script({ src: address + "script" }));
            document.body.append(script({ textContent: "taken = 1" }));
            return fetch(address + "fetch").catch((error) => error.name);
        }""",
        address,
    )
    taken = page.evaluate("typeof taken")
    page.close()
    server.shutdown()
    assert asked == []
    assert taken == "undefined"
    assert len([text for text in refused if "Content Security Policy" in text]) >= 4
