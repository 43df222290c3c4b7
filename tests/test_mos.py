import base64
import html
import json
import re
import shutil
import signal
import sys
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from rich.console import Console
from scipy.stats import ttest_1samp, ttest_rel

from tests.clips import moving_pictures, write_clip
from tests.measuring import full_disk
from vsr.cli import main
from vsr.errors import InputError, OutputError, UsageError
from vsr.evaluate.mos import SheetOptions, opinion_table, read_opinions, write_sheet
from vsr.evaluate.mos.ratings import t_interval
from vsr.records import from_table

LOSSLESS = {"codec": "ffv1", "pixel_format": "bgr0"}
PICTURES = moving_pictures(30, 48, 64)
OPTIONS = SheetOptions(trials=3, loop_frames=4, window_px=(32, 40), seed=1)


def tinted(level):
    """Pictures that tell by their blue which clip they are of."""
    return [
        np.dstack([picture[..., :2], np.full(picture.shape[:2], level, np.uint8)])
        for picture in PICTURES
    ]


@pytest.fixture
def clips(tmp_path):
    return [
        write_clip(tmp_path / f"<b>&{level}.mkv", tinted(level), **LOSSLESS)
        for level in (40, 120, 200)
    ]


def make(tmp_path, clips, **arguments):
    sheet, key = tmp_path / "sheet.html", tmp_path / "key.json"
    write_sheet(clips, sheet, key, **({"options": OPTIONS} | arguments))
    return sheet.read_text(), json.loads(key.read_text())


def page_data(text):
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S).group(1)
    )


def decoded(uri):
    kind, payload = uri.split(",")
    assert kind == "data:image/webp;base64"
    return cv2.imdecode(np.frombuffer(base64.b64decode(payload), np.uint8), cv2.IMREAD_COLOR)[
        ..., ::-1
    ]


def test_the_key_tells_which_picture_is_of_which_clip(tmp_path, clips):
    text, key = make(tmp_path, clips)
    data = page_data(text)
    assert key["clips"] == list(map(str, clips))
    assert data["sheet"] == key["sheet"]
    assert len(data["trials"]) == len(key["trials"]) == 3
    for trial, secret in zip(data["trials"], key["trials"], strict=True):
        assert [len(loop) for loop in trial["loops"]] == [4, 4, 4]
        assert sorted(secret["order"]) == [0, 1, 2]
        for loop, number in zip(trial["loops"], secret["order"], strict=True):
            first = round(secret["seconds"] * 25)
            rows, columns = (
                slice(secret["top"], secret["top"] + 32),
                slice(secret["left"], secret["left"] + 40),
            )
            for step, uri in enumerate(loop):
                assert np.array_equal(
                    decoded(uri), tinted((40, 120, 200)[number])[first + step][rows, columns]
                )


def test_the_page_names_no_clip_and_loads_nothing(tmp_path, clips):
    text, _ = make(tmp_path, clips)
    for clip in clips:
        assert clip.name not in text
        assert html.escape(clip.name) not in text
    assert "order" not in page_data(text)["trials"][0]
    sources = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attributes):
            sources.extend(value for name, value in attributes if name in ("src", "href"))

    Links().feed(text)
    assert sources == []
    assert "http" not in text.replace("http-equiv", "")


def test_labels_are_shuffled_anew_in_every_trial_and_by_every_seed(tmp_path):
    clips = [
        write_clip(tmp_path / f"{level}.mkv", tinted(level), **LOSSLESS)
        for level in (20, 90, 150, 220)
    ]
    orders = [
        tuple(trial["order"])
        for seed in range(8)
        for trial in make(tmp_path, clips, options=SheetOptions(6, 2, (16, 16), seed=seed))[1][
            "trials"
        ]
    ]
    assert len(orders) == 48
    assert len(set(orders)) > 12
    assert {order[0] for order in orders} == {0, 1, 2, 3}
    seeds = {
        make(tmp_path, clips, options=SheetOptions(2, 2, (16, 16)))[1]["seed"] for _ in range(2)
    }
    assert len(seeds) == 2


def test_the_question_is_text_and_not_markup(tmp_path, clips):
    text, _ = make(
        tmp_path,
        clips,
        options=SheetOptions(1, 1, (16, 16), question="<script>alert(1)</script> $x"),
    )
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; $x" in text


def test_a_reference_is_shown_openly_and_not_rated(tmp_path, clips):
    text, key = make(tmp_path, clips[:2], reference=clips[2])
    data = page_data(text)
    assert key["reference"] == str(clips[2])
    for trial in data["trials"]:
        assert len(trial["loops"]) == 2
        assert (decoded(trial["reference"][0])[..., 2] == 200).all()


def test_the_window_lies_where_the_clips_differ(tmp_path):
    spoilt = [picture.copy() for picture in PICTURES]
    for picture in spoilt:
        picture[32:48, 48:64] = 0
    clips = [
        write_clip(tmp_path / f"{name}.mkv", some, **LOSSLESS)
        for name, some in (("a", PICTURES), ("b", spoilt))
    ]
    _, key = make(tmp_path, clips, options=SheetOptions(2, 2, (16, 16), seed=0))
    assert {(trial["top"], trial["left"]) for trial in key["trials"]} == {(32, 48)}


def test_clips_are_shown_at_the_same_moments_though_one_lost_its_start(tmp_path):
    late = write_clip(tmp_path / "late.mkv", PICTURES[5:], pts=range(5, 30), **LOSSLESS)
    whole = write_clip(tmp_path / "whole.mkv", PICTURES, **LOSSLESS)
    for clips in ([late, whole], [whole, late]):
        for trial in page_data(make(tmp_path, clips)[0])["trials"]:
            assert trial["loops"][0] == trial["loops"][1]


def test_a_clip_shorter_than_a_loop_is_one_trial(tmp_path):
    clips = [write_clip(tmp_path / f"{name}.mkv", PICTURES[:2], **LOSSLESS) for name in "ab"]
    data = page_data(make(tmp_path, clips)[0])
    assert [[len(loop) for loop in trial["loops"]] for trial in data["trials"]] == [[2, 2]]


def test_requests_that_make_no_sheet_are_refused(tmp_path, clips):
    sheet, key = tmp_path / "sheet.html", tmp_path / "key.json"
    with pytest.raises(UsageError, match="expected 2 to 26"):
        write_sheet(clips[:1], sheet, key)
    with pytest.raises(UsageError, match="would replace the page"):
        write_sheet(clips, sheet, sheet)
    with pytest.raises(UsageError, match="trials is 0; expected a whole number from 1"):
        from_table(SheetOptions, {"trials": 0})
    small = write_clip(tmp_path / "small.mkv", moving_pictures(4, 32, 48), **LOSSLESS)
    with pytest.raises(InputError, match=r"48x32.*64x48"):
        write_sheet([clips[0], small], sheet, key)
    with pytest.raises(OutputError, match="cannot be written"):
        write_sheet(clips, tmp_path / "missing" / "sheet.html", key, options=OPTIONS)
    assert not sheet.exists()


def test_on_a_full_disk_page_and_key_stay_as_they_were(tmp_path, clips):
    before = make(tmp_path, clips)
    for name, limit in (("key.json", 64), ("sheet.html", 4096)):
        with full_disk(limit), pytest.raises(OutputError, match=f"{name} cannot be written"):
            make(tmp_path, clips)
        assert {path.name for path in tmp_path.glob("*.[jh]*")} == {"key.json", "sheet.html"}
        assert (tmp_path / name).read_text() == (
            before[0] if name == "sheet.html" else json.dumps(before[1], indent=2)
        )


ORDERS = [[0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 2, 1]]
NAMES = ["good.mkv", "fair.mkv", "[red]fair too.mkv"]


def by_clip(given, order):
    return [given[clip] for clip in order]


@pytest.fixture
def answers(tmp_path):
    """Ratings by six raters: the first clip is clearly the best, the others are alike."""
    key = tmp_path / "key.json"
    trials = [{"seconds": 0.0, "left": 0, "top": 0, "order": order} for order in ORDERS]
    key.write_text(
        json.dumps({"sheet": "s1", "seed": 0, "clips": NAMES, "reference": None, "trials": trials})
    )
    given = [[5, 2, 3], [4, 3, 2], [5, 3, 3], [4, 2, 2], [5, 3, 2], [4, 2, 3]]
    paths = []
    for number, values in enumerate(given):
        path = tmp_path / f"ratings{number}.json"
        rows = [by_clip(values, order) for order in ORDERS]
        path.write_text(json.dumps({"sheet": "s1", "rater": f"r{number}", "ratings": rows}))
        paths.append(path)
    return key, paths, np.array(given, dtype=float)


def test_ratings_become_means_with_students_interval_over_raters(answers):
    key, paths, given = answers
    opinions = {clip.clip: clip for clip in read_opinions(paths, key).clips}
    for number, name in enumerate(NAMES):
        expected = ttest_1samp(given[:, number], 0).confidence_interval(0.95)
        assert opinions[name].mean == pytest.approx(given[:, number].mean())
        assert opinions[name].interval == pytest.approx((expected.low, expected.high))
        assert (opinions[name].raters, opinions[name].ratings) == (6, 24)


def test_clips_that_raters_do_not_tell_apart_are_tied(answers):
    key, paths, given = answers
    assert (
        ttest_rel(given[:, 0], given[:, 1]).pvalue
        < 0.05
        < ttest_rel(given[:, 1], given[:, 2]).pvalue
    )
    assert [clip.rank for clip in read_opinions(paths, key).clips] == [1, 2, 2]


def test_one_rater_decides_nothing(answers):
    key, paths, _ = answers
    opinions = read_opinions(paths[:1], key)
    assert [clip.interval for clip in opinions.clips] == [None] * 3
    assert {clip.rank for clip in opinions.clips} == {1}


def test_pictures_left_unrated_are_left_out(answers):
    key, paths, given = answers
    record = json.loads(paths[0].read_text())
    record["ratings"][0] = [None, None, None]
    record["ratings"][1] = by_clip([1, None, 3], ORDERS[1])
    paths[0].write_text(json.dumps(record))
    opinions = {clip.clip: clip for clip in read_opinions(paths, key).clips}
    assert opinions["good.mkv"].ratings == 23
    assert opinions["fair.mkv"].ratings == 22
    assert opinions["good.mkv"].mean == pytest.approx(np.mean([(5 + 5 + 1) / 3, *given[1:, 0]]))


def test_the_table_and_the_record_say_the_same(answers):
    key, paths, _ = answers
    opinions = read_opinions(paths, key)
    console = Console(width=120, record=True)
    console.print(opinion_table(opinions))
    printed = console.export_text()
    assert "[red]fair too.mkv" in printed
    assert "2=" in printed
    record = json.loads(json.dumps(opinions.to_json(), allow_nan=False))
    assert record["clips"][0]["clip"] == "good.mkv"
    assert record["clips"][0]["interval"] == list(opinions.clips[0].interval)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ("not JSON", "is not JSON"),
        ([], "expected a JSON object"),
        ({"sheet": "other", "ratings": []}, "rates sheet other"),
        ({"sheet": "s1", "ratings": [[1, 2, 3]]}, "expected ratings of 4 trials"),
        ({"sheet": "s1", "ratings": [[1, 2, 6]] + [[1, 2, 3]] * 3}, r"ratings\[0\]\[2\] is 6"),
        (
            {"sheet": "s1", "ratings": [[1, 2, True]] + [[1, 2, 3]] * 3},
            r"ratings\[0\]\[2\] is True",
        ),
        ({"sheet": "s1", "ratings": [[1, 2]] + [[1, 2, 3]] * 3}, "trial 1"),
        ({"sheet": "s1", "ratings": [[None] * 3] * 4}, "nobody rated"),
    ],
)
def test_files_that_are_no_ratings_of_the_sheet_are_refused(tmp_path, answers, record, words):
    path = tmp_path / "odd.json"
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    with pytest.raises(InputError, match=words):
        read_opinions([path], answers[0])


def test_a_rater_counts_once(answers):
    key, paths, _ = answers
    with pytest.raises(InputError, match="a second file by rater 'r0'"):
        read_opinions([paths[0], paths[0]], key)


def test_a_file_that_is_no_key_is_refused(answers):
    key, paths, _ = answers
    with pytest.raises(InputError, match="clips is missing"):
        read_opinions(paths, paths[0])
    with pytest.raises(InputError, match="cannot be read"):
        read_opinions(paths, key.with_name("missing.json"))


def test_students_interval_needs_two_values():
    assert t_interval([3.0]) is None
    assert t_interval([3.0, 3.0]) == (3.0, 3.0)


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command line in this process: exit code, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["vsr", *map(str, arguments)])
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as left:
                main()
        finally:
            signal.signal(signal.SIGTERM, handler)
        return left.value.code, *capsys.readouterr()

    return run


def test_the_commands_go_from_clips_to_opinions(tmp_path, clips, command):
    sheet, key = tmp_path / "sheet.html", tmp_path / "sheet.key.json"
    options = ("--trials", 2, "--loop-frames", 2, "--window", "40x32")
    assert command("mos", "sheet", *clips, "-o", sheet, *options)[0] == 0
    secret = json.loads(key.read_text())
    ratings = tmp_path / "ratings.json"
    rows = [by_clip([1, 3, 5], trial["order"]) for trial in secret["trials"]]
    ratings.write_text(json.dumps({"sheet": secret["sheet"], "rater": "", "ratings": rows}))
    code, text, _ = command("mos", "read", ratings, "--key", key, "--json", "-")
    assert code == 0
    assert {clip["clip"]: clip["mean"] for clip in json.loads(text)["clips"]} == dict(
        zip(map(str, clips), [1, 3, 5], strict=True)
    )
    code, _, errors = command("mos", "sheet", *clips, "-o", sheet)
    assert code == 4
    assert "-y" in errors
    assert command("mos", "sheet", *clips, "-o", clips[0], "-y")[0] == 2
    assert command("mos", "sheet", *clips, "-o", sheet, "-y", "--window", "big")[0] == 2


@pytest.fixture
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Debian's chromium")
    with playwright.sync_playwright() as engine:
        opened = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


def test_a_rater_needs_no_mouse_and_no_network(tmp_path, clips, browser):
    _, key = make(tmp_path, clips)
    said, asked = [], []
    page = browser.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "sheet.html").as_uri())
    for trial in key["trials"]:
        for clip in trial["order"]:
            page.keyboard.press("135"[clip])
        page.keyboard.press("n")
    page.fill("#rater", "me")
    with page.expect_download() as saved:
        page.press("#download", "Enter")
    saved.value.save_as(tmp_path / "ratings.json")
    means = {
        clip.clip: clip.mean
        for clip in read_opinions([tmp_path / "ratings.json"], tmp_path / "key.json").clips
    }
    assert means == dict(zip(map(str, clips), [1, 3, 5], strict=True))
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def test_the_page_plays_its_loops_and_remembers_ratings(tmp_path, clips, browser):
    make(tmp_path, clips)
    page = browser.new_page(bypass_csp=True)
    page.goto((tmp_path / "sheet.html").as_uri())
    page.wait_for_function("document.querySelector('canvas').width === 40")
    pixels = "document.querySelector('canvas').toDataURL()"
    first = page.evaluate(pixels)
    page.wait_for_function(f"{pixels} !== {json.dumps(first)}")
    page.keyboard.press(" ")
    assert page.get_attribute("#pause", "aria-pressed") == "true"
    page.keyboard.press("b")
    page.keyboard.press("4")
    page.reload()
    page.wait_for_selector("input[name=rating1][value='4']:checked", state="attached")
    assert not page.is_checked("input[name=rating0][value='4']")


def test_stills_of_one_name_are_one_trial(tmp_path):
    """A set as experiments write it: pictures of different sizes, by name, whatever the suffix."""
    names = ["bird", "comic", "only here"]
    for place, level in (("a", 40), ("b", 200)):
        (tmp_path / place).mkdir()
        for number, name in enumerate(names[: 3 if place == "a" else 2]):
            picture = moving_pictures(1, 40 + 8 * number, 64, seed=number)[0].copy()
            picture[..., 2] = level
            suffix = ".png" if place == "a" else ".bmp"
            cv2.imwrite(str(tmp_path / place / f"{name}{suffix}"), picture[..., ::-1])
    folders = [tmp_path / "a", tmp_path / "b"]
    options = SheetOptions(trials=5, window_px=(32, 48), stills=True, seed=1)
    text, key = make(tmp_path, folders, options=options)
    data = page_data(text)
    assert [trial["picture"] for trial in key["trials"]] == ["bird", "comic"]
    for shown, secret in zip(data["trials"], key["trials"], strict=True):
        for (uri,), number in zip(shown["loops"], secret["order"], strict=True):
            picture = decoded(uri)
            assert picture.shape == (32, 48, 3)
            assert (picture[..., 2] == (40, 200)[number]).all()
    assert "bird" not in text
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no picture of one name"):
        make(tmp_path, [*folders, tmp_path / "empty"], options=options)
    with pytest.raises(InputError, match="is no folder"):
        make(tmp_path, [tmp_path / "a" / "bird.png", tmp_path / "b"], options=options)
