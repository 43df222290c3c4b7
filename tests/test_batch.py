"""Many clips in one command: found, upscaled one by one, told in one table; a folder watched."""

import json
import shutil
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.clips import moving_pictures, read_frames, write_clip
from vsr import cli
from vsr.errors import InputError, ModelError, UsageError
from vsr.pipeline import batch
from vsr.pipeline.batch import (
    FoundClip,
    check_many,
    files_of_clip,
    find_clips,
    has_result,
    is_many,
    run_clips,
    watch_films,
    worst,
)
from vsr.pipeline.options import RunFiles
from vsr.video.writer import WorkOptions


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    return write_clip(folder / "film.mkv", moving_pictures(3), codec="ffv1", pixel_format="bgr0")


@pytest.fixture
def films(tmp_path, film):
    """A folder with two films, and a folder in it with a third and one with pictures."""
    folder = tmp_path / "films"
    (folder / "below").mkdir(parents=True)
    (folder / "pictures").mkdir()
    for name in ("b.mkv", "a.mkv", "below/a.mkv", ".hidden.mkv"):
        shutil.copy(film, folder / name)
    (folder / "notes.txt").touch()
    for number in range(2):
        (folder / "pictures" / f"{number}.png").touch()
    return folder


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command line in this process: (exit code, standard error)."""
    before = signal.getsignal(signal.SIGTERM)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["vsr", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code, capsys.readouterr().err

    yield call
    signal.signal(signal.SIGTERM, before)


def names_of(clips, root):
    return [str(Path(clip.path).relative_to(root)) for clip in clips]


def test_a_folder_of_films_is_many_clips_and_one_of_pictures_is_one(films):
    assert names_of(find_clips([str(films)]), films) == ["a.mkv", "b.mkv"]
    found = find_clips([str(films)], recursive=True)
    assert names_of(found, films) == ["a.mkv", "b.mkv", "below/a.mkv", "pictures"]
    assert [str(clip.subfolder) for clip in found] == [".", ".", "below", "."]
    assert names_of(find_clips([str(films / "pictures")]), films) == ["pictures"]


def test_clips_are_taken_once_and_in_the_order_of_their_names(films):
    given = [str(films / "b.mkv"), str(films / "*.mkv"), str(films / "nothing.mkv")]
    assert names_of(find_clips(given), films) == ["b.mkv", "a.mkv", "nothing.mkv"]


def test_a_single_clip_is_not_many(films):
    assert not is_many([str(films / "a.mkv")], recursive=False)
    assert not is_many([str(films / "pictures")], recursive=False)
    assert not is_many(["-"], recursive=False)
    assert not is_many([str(films / "pictures" / "%d.png")], recursive=False)
    for names in ([str(films)], [str(films / "*.mkv")], ["a.mkv", "b.mkv"]):
        assert is_many(names, recursive=False)


def test_results_beside_their_clips_are_passed_over(films):
    shutil.copy(films / "a.mkv", films / "a_x4.mkv")
    shutil.copy(films / "a.mkv", films / "c_x2.mkv")
    notes = []
    assert names_of(find_clips([str(films)], notify=notes.append), films) == [
        "a.mkv",
        "b.mkv",
        "c_x2.mkv",
    ]
    assert len(notes) == 1
    assert "looks like a result of a.mkv" in notes[0]
    assert has_result(FoundClip(str(films / "a.mkv")), RunFiles())
    assert not has_result(FoundClip(str(films / "b.mkv")), RunFiles())
    assert not has_result(FoundClip(str(films / "a.mkv")), RunFiles(out_dir=films / "nowhere"))


def test_what_cannot_be_many_clips_is_refused(films):
    (films / "cover.png").touch()
    with pytest.raises(UsageError, match=r"holds films \(a.mkv\) and pictures \(cover.png\)"):
        find_clips([str(films)])
    with pytest.raises(UsageError, match="pipe"):
        find_clips(["-", "a.mkv"])
    with pytest.raises(InputError, match="nothing matches"):
        find_clips([str(films / "*.avi")])
    (films / "empty").mkdir()
    with pytest.raises(InputError, match="no films and no pictures"):
        find_clips([str(films / "empty")])
    clips = [FoundClip("x/a.mkv"), FoundClip("y/a.mkv")]
    with pytest.raises(UsageError, match="--out-dir DIR"):
        check_many(clips, RunFiles("out.mkv"))
    with pytest.raises(UsageError, match="one by one"):
        check_many(clips, RunFiles(reference="truth.mkv"))
    with pytest.raises(UsageError, match="results of one name"):
        check_many(clips, RunFiles(out_dir="out"))
    check_many(clips, RunFiles())
    with pytest.raises(UsageError, match="give one"):
        RunFiles("out.mkv", out_dir="out")


def test_each_clip_has_its_own_place_for_result_and_work():
    files = RunFiles(out_dir="out", work=WorkOptions(Path("work")))
    own = files_of_clip(files, FoundClip("films/below/a.mkv", Path("below")))
    assert own.out_dir == Path("out/below")
    assert own.work.folder == Path("work/below/a.mkv")


def test_one_that_fails_does_not_stop_the_others():
    def upscale(clip, files):
        raise {"a": InputError("no film"), "b": ValueError("a bug"), "c": ModelError("bad")}[clip]

    notes = []
    ends = list(run_clips(map(FoundClip, "abc"), RunFiles(), upscale, notes.append))
    assert [(end.clip, end.exit_code) for end in ends] == [("a", 3), ("b", 1), ("c", 5)]
    assert any("Traceback" in note for note in notes)
    assert [entry["error"] for entry in json.loads(batch.to_json(ends))] == [
        "no film",
        "ValueError: a bug",
        "bad",
    ]


@pytest.mark.parametrize(
    ("codes", "code"),
    [([], 0), ([0, 6], 6), ([6, 2, 0], 2), ([3, 2], 3), ([3, 4], 4), ([4, 5], 5), ([5, 1, 0], 1)],
)
def test_the_exit_code_is_that_of_the_worst(codes, code):
    assert worst(codes) == code


def test_the_command_upscales_all_it_can_and_shows_a_table(command, films, tmp_path):
    (films / "broken.mp4").write_bytes(b"no film")
    shutil.rmtree(films / "pictures")
    options = ["--policy", "bicubic", "--scale", 2, "--recursive", "--metrics", ""]
    out, record = tmp_path / "out", tmp_path / "out.json"
    code, errors = command("run", films, *options, "--out-dir", out, "--json", record)
    assert code == 3
    results = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    assert results == ["a_x2.mkv", "b_x2.mkv", "below/a_x2.mkv"]
    assert len(read_frames(out / "a_x2.mkv")) == 3
    assert "3 of 4 clips upscaled" in errors
    entries = json.loads(record.read_text())
    assert [entry.get("frames_out") for entry in entries] == [3, 3, None, 3]
    # The same command does not write anything twice.
    assert command("run", films / "a.mkv", films / "b.mkv", *options, "--out-dir", out)[0] == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give the clips to upscale"),
        (["a.mkv", "--watch", "films"], "not both"),
        (["a.mkv", "b.mkv", "-o", "out.mkv", "--policy", "bicubic"], "--out-dir DIR"),
        (["a.mkv", "b.mkv", "--dry-run"], "--dry-run is for one clip"),
        (["a.mkv", "b.mkv", "--report", "page.html"], "--report is for one clip"),
        (["a.mkv", "-o", "x.mkv", "--out-dir", "out"], "give one"),
    ],
)
def test_requests_that_clash_are_refused_with_one_line(
    command, monkeypatch, tmp_path, arguments, message
):
    monkeypatch.chdir(tmp_path)
    code, errors = command("run", *arguments)
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors


def test_a_film_that_appears_is_taken_when_it_stopped_growing(tmp_path, film, monkeypatch):
    monkeypatch.setattr(batch, "SETTLE_SECONDS", 0.4)
    monkeypatch.setattr(batch, "LOOK_SECONDS", 0.1)
    shutil.copy(film, tmp_path / "there.mkv")
    content, is_whole, stop = film.read_bytes(), threading.Event(), threading.Event()

    def grow():
        with (tmp_path / "new.mkv").open("wb") as file:
            for start in range(0, len(content), len(content) // 8 + 1):
                file.write(content[start : start + len(content) // 8 + 1])
                file.flush()
                time.sleep(0.1)
        is_whole.set()

    writer = threading.Thread(target=grow)
    taken = []
    for clip in watch_films(tmp_path, should_stop=stop.is_set):
        taken.append(Path(clip.path).name)
        if taken == ["there.mkv"]:
            # Its result is no new film, also when the film itself is moved away.
            shutil.copy(film, tmp_path / "there_x4.mkv")
            (tmp_path / "there.mkv").unlink()
            writer.start()
        else:
            assert is_whole.is_set()
            stop.set()
    writer.join()
    assert taken == ["there.mkv", "new.mkv"]


def test_a_watched_folder_that_vanishes_ends_the_watch(tmp_path, film, monkeypatch):
    monkeypatch.setattr(batch, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(batch, "LOOK_SECONDS", 0.1)
    folder = tmp_path / "films"
    folder.mkdir()
    shutil.copy(film, folder)
    taken = watch_films(folder)
    assert Path(next(taken).path).name == film.name
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="has gone"):
        next(taken)
    with pytest.raises(InputError, match="not a folder"):
        next(watch_films(folder))


def test_a_watch_passes_over_films_that_have_results(command, films, monkeypatch):
    monkeypatch.setattr(batch, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(batch, "LOOK_SECONDS", 0.1)
    shutil.copy(films / "a.mkv", films / "a_x4.mkv")
    done = []
    real = batch.run_clips

    def first_only(clips, *rest):
        for end in real(clips, *rest):
            done.append(end)
            signal.raise_signal(signal.SIGINT)
            yield end

    monkeypatch.setattr(batch, "run_clips", first_only)
    code, errors = command("run", "--watch", films, "--policy", "bicubic", "--metrics", "")
    assert (code, [Path(end.clip).name for end in done]) == (0, ["b.mkv"])
    assert "1 of 1 clips upscaled" in errors
    assert replace(done[0], manifest=None).exit_code == 0
