"""The whole repository, as its tools see it."""

import re
import subprocess
from pathlib import Path

import pytest

from benchmarks.house import House

ROOT = Path(__file__).resolve().parents[1]

MACHINE_PATH = re.compile(rb"(?<![\w.~/-])/(?:home|Users|root|work|opt|mnt|tmp|workspace)/\w")
"""An absolute path of somebody's machine, outside an address or a longer relative path."""


def tracked_files():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is tracked is not known")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_names_a_path_of_one_machine():
    found = {
        str(path.relative_to(ROOT)): match.group().decode()
        for path in tracked_files()
        if (match := MACHINE_PATH.search(path.read_bytes()))
    }
    assert found == {}


def test_the_origin_of_every_sample_is_told():
    sources = (ROOT / "samples" / "SOURCES.md").read_text()
    samples = {path.name for path in (ROOT / "samples").iterdir()} - {
        "SOURCES.md",
        "make_samples.py",
        "__pycache__",
    }
    assert {"clip.mp4", "clip_truth.mkv"} <= samples
    assert [name for name in sorted(samples) if f"`{name}" not in sources] == []


def test_the_samples_stay_small():
    assert (
        sum(path.stat().st_size for path in (ROOT / "samples").rglob("*") if path.is_file())
        < 8_000_000
    )


def test_the_house_keeps_its_shape():
    house = House(ROOT / "vsr")
    figures = house.figures()
    assert int(figures["modules and folders at the top"]) <= 20
    assert len(house.chain) <= 13, " -> ".join(house.chain)
    assert figures["docstrings with a vague opening"] == "0"


def test_nothing_but_tests_imports_tests():
    others = [
        path
        for folder in ("vsr", "benchmarks", "tools", "samples")
        for path in (ROOT / folder).rglob("*.py")
    ]
    importing = re.compile(r"^\s*(?:from|import) tests\b", re.MULTILINE)
    found = [str(path.relative_to(ROOT)) for path in others if importing.search(path.read_text())]
    assert len(others) > 200
    assert found == []
