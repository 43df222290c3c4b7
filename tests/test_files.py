"""Locks of folders, and what works on a system that is not Linux."""

import json
import os
import signal
import subprocess
import sys

import pytest

from vsr.errors import OutputError
from vsr.files import FolderLock

LOCK = """
import sys
from pathlib import Path
from vsr.errors import OutputError
from vsr.files import FolderLock
folder, turns = Path(sys.argv[1]), int(sys.argv[2])
count = folder / "count"
done = 0
while done < turns:
    try:
        with FolderLock(folder, "a test is being done"):
            # Two owners at once would read the same number, and one turn would be lost.
            count.write_text(str(int(count.read_text()) + 1))
        done += 1
    except OutputError:
        pass
"""


def test_processes_that_hold_a_folder_in_turn_lose_nothing_and_leave_no_lock(tmp_path):
    """The lock is removed by its owner while others are about to take it."""
    (tmp_path / "count").write_text("0")
    command = [sys.executable, "-c", LOCK, str(tmp_path), "60"]
    others = [subprocess.Popen(command) for _ in range(4)]
    assert [other.wait(timeout=300) for other in others] == [0] * 4
    assert (tmp_path / "count").read_text() == "240"
    assert [path.name for path in tmp_path.iterdir()] == ["count"]


def test_a_folder_is_held_once_also_within_a_process_and_its_owner_is_named(tmp_path):
    with FolderLock(tmp_path, "a test is being done", ".lock"):
        assert json.loads((tmp_path / ".lock").read_text())["process"] == os.getpid()
        with (
            pytest.raises(OutputError, match=rf"a test is being done by process {os.getpid()} on "),
            FolderLock(tmp_path, "a test is being done", ".lock"),
        ):
            pass
    with FolderLock(tmp_path, "a test is being done", ".lock"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_owner_was_killed_is_taken_over(tmp_path):
    code = f"""
import os, signal
from pathlib import Path
from vsr.files import FolderLock
with FolderLock(Path({str(tmp_path)!r}), "a test is being done"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    with FolderLock(tmp_path, "a test is being done"):
        assert json.loads((tmp_path / "lock").read_text())["process"] == os.getpid()


def test_trainings_are_imported_where_the_modules_of_unix_are_missing():
    """As on Windows, which has neither of them."""
    code = """
import sys
sys.modules["fcntl"] = sys.modules["resource"] = None
import vsr.files, vsr.train.keyframe, vsr.train.shot, vsr.train.distill, vsr.train.dataset
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
