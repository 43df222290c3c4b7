"""Banks in the user's cache: found by the clip, held to a size, safe for several processes."""

import os
import subprocess
import sys

import pytest

from tests.clips import moving_pictures, write_clip
from tests.models import make_model, picture
from vsr.errors import OutputError, UsageError
from vsr.pipeline.cache import (
    MIN_FREE_BYTES,
    RECORD_NAME,
    cache_folder,
    cached_bank,
    clear_banks,
    list_banks,
    size_limit,
)
from vsr.video.reader import ReadOptions, open_clip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "banks"


@pytest.fixture(scope="module")
def infos(tmp_path_factory):
    """Descriptions of two clips."""
    folder = tmp_path_factory.mktemp("clips")
    found = []
    for number in range(2):
        clip = write_clip(folder / f"{number}.mkv", moving_pictures(3, seed=number))
        with open_clip(clip) as reader:
            found.append(reader.info)
    return found


def fill(info, size_bytes, used_at):
    with cached_bank(info, ReadOptions()) as bank:
        (bank / "state").write_bytes(bytes(size_bytes))
    os.utime(bank / RECORD_NAME, (used_at, used_at))
    return bank


def test_a_bank_is_found_by_the_content_of_the_clip_and_the_way_it_is_read(infos, cache):
    first, second = infos
    with cached_bank(first, ReadOptions()) as bank, cached_bank(first, ReadOptions()) as again:
        assert bank == again
        assert bank.parent == cache == cache_folder()
    with (
        cached_bank(second, ReadOptions()) as other,
        cached_bank(first, ReadOptions(deinterlace="off")) as off,
    ):
        assert len({bank, other, off}) == 3
    assert {entry.clip for entry in list_banks()} == {"0.mkv", "1.mkv"}


def test_a_pipe_has_no_bank(infos):
    from dataclasses import replace

    with (
        pytest.raises(UsageError, match="pipe"),
        cached_bank(replace(infos[0], identity=""), ReadOptions()),
    ):
        pass


def test_the_bank_that_was_used_least_recently_goes_where_the_cache_is_full(infos, monkeypatch):
    monkeypatch.setenv("VSR_CACHE_LIMIT", "1500K")
    old = fill(infos[0], 2**20, used_at=1000)
    notes = []
    with cached_bank(infos[1], ReadOptions()) as new:
        (new / "state").write_bytes(bytes(2**20))
    with cached_bank(infos[1], ReadOptions(), notes.append):
        pass
    assert not old.exists()
    assert new.exists()
    assert notes == [f"the cache is full: the oldest bank, {old.name}, was removed"]


def test_a_bank_in_use_is_neither_evicted_nor_cleared(infos, monkeypatch):
    monkeypatch.setenv("VSR_CACHE_LIMIT", "1K")
    with cached_bank(infos[0], ReadOptions()) as used:
        (used / "state").write_bytes(bytes(2**20))
        with cached_bank(infos[1], ReadOptions()):
            pass
        assert used.exists()
        assert next(bank for bank in list_banks() if bank.clip == "0.mkv").is_used
        notes = []
        assert [bank.clip for bank in clear_banks(notify=notes.append)] == ["1.mkv"]
        assert notes == [f"{used.name} is in use and stays"]
    assert [bank.clip for bank in clear_banks(["0.mkv"])] == ["0.mkv"]
    assert list_banks() == []


def test_a_bank_that_a_killed_process_used_can_be_removed(infos, cache):
    clip = infos[0].path
    code = (
        "import os, sys\n"
        "from vsr.pipeline.cache import cached_bank\n"
        "from vsr.video.reader import ReadOptions, open_clip\n"
        "info = open_clip(sys.argv[1]).info\n"
        "with cached_bank(info, ReadOptions()): os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(clip)], check=False)
    assert [bank.is_used for bank in list_banks()] == [False]
    assert len(clear_banks()) == 1


def test_damaged_models_are_removed_and_sound_ones_kept(infos):
    with cached_bank(infos[0], ReadOptions()) as bank:
        make_model(bank, "sound", picture())
        (bank / "broken.safetensors").write_bytes(b"nothing")
        (bank / "broken.shot.safetensors").write_bytes(b"")
    notes = []
    with cached_bank(infos[0], ReadOptions(), notes.append):
        assert sorted(path.name for path in bank.glob("*.safetensors")) == ["sound.safetensors"]
    assert len(notes) == 2
    assert all("damaged; it is trained again" in note for note in notes)


def test_a_cache_that_cannot_be_used_is_told_in_one_line(infos, cache, monkeypatch):
    cache.parent.write_text("a file")
    with pytest.raises(OutputError, match="VSR_CACHE"), cached_bank(infos[0], ReadOptions()):
        pass
    cache.parent.unlink()
    usage = type("usage", (), {"free": MIN_FREE_BYTES - 1})
    monkeypatch.setattr("vsr.pipeline.cache.shutil.disk_usage", lambda _: usage)
    with (
        pytest.raises(OutputError, match="63 MiB of free space"),
        cached_bank(infos[0], ReadOptions()),
    ):
        pass


def test_a_damaged_record_does_not_hide_a_bank(infos):
    bank = fill(infos[0], 10, used_at=1000)
    (bank / RECORD_NAME).write_text("{")
    assert [entry.clip for entry in list_banks()] == ["unknown"]
    assert len(clear_banks([bank.name])) == 1


def test_what_is_not_a_bank_is_left_alone(infos, cache):
    (cache / "mine").mkdir(parents=True)
    (cache / "mine" / "file").touch()
    assert list_banks() == []
    clear_banks()
    assert (cache / "mine" / "file").exists()


@pytest.mark.parametrize(("text", "size"), [("", 4 * 2**30), ("500M", 500 * 2**20), ("7", 7)])
def test_the_limit_is_read_from_the_environment(monkeypatch, text, size):
    monkeypatch.setenv("VSR_CACHE_LIMIT", text)
    assert size_limit() == size


def test_a_limit_or_name_that_makes_no_sense_is_refused(monkeypatch):
    monkeypatch.setenv("VSR_CACHE_LIMIT", "much")
    with pytest.raises(UsageError, match="500M"):
        size_limit()
    with pytest.raises(UsageError, match="vsr cache list"):
        clear_banks(["nothing"])
