"""What every kind of run shares: one session opens it."""

import importlib.metadata
import pkgutil
import subprocess
import sys
import threading
from dataclasses import replace

import cv2
import pytest
import torch

import vsr
from tests.clips import moving_pictures, write_clip
from tests.models import make_model, picture
from vsr.engine.machine import OPENCV_BUILDS, versions
from vsr.errors import InputError, UsageError
from vsr.pipeline.options import Recipe, RunFiles
from vsr.pipeline.run import compare, run, steady
from vsr.pipeline.session import Session
from vsr.progress import Listener
from vsr.video.reader import ReadOptions
from vsr.video.writer import EncodeOptions, WorkOptions

LOSSLESS = EncodeOptions("ffv1", pixel_format="bgr0")
BICUBIC = Recipe("bicubic", scale=2.0, encode=LOSSLESS, metrics=())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("session")


@pytest.fixture(scope="module")
def clip(folder):
    pictures = moving_pictures(8, 32, 40)
    return write_clip(folder / "clip.mkv", pictures, codec="ffv1", pixel_format="bgr0")


@pytest.fixture(scope="module")
def large(folder, clip):
    run(clip, BICUBIC, RunFiles(folder / "large.mkv"))
    return folder / "large.mkv"


@pytest.fixture(scope="module")
def broken(folder, clip):
    """The clip without its end: a damage that every reader sees."""
    path = folder / "broken.mkv"
    path.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    return path


def threads_in(call):
    """The numbers of threads while a call is at work, and afterwards."""
    within = set()

    def on_progress(*_):
        within.add((torch.get_num_threads(), cv2.getNumThreads()))

    call(Listener(on_progress=on_progress))
    return within, (torch.get_num_threads(), cv2.getNumThreads())


@pytest.mark.parametrize("kind", ["run", "compare", "steady"])
def test_threads_are_those_asked_for_within_a_run_and_the_callers_own_afterwards(
    tmp_path, clip, large, kind
):
    recipe, out = replace(BICUBIC, threads=3, compare=("bicubic",)), tmp_path / "out.mkv"
    calls = {
        "run": lambda hears: run(clip, recipe, RunFiles(out), hears),
        "compare": lambda hears: compare(clip, recipe, RunFiles(reference=large), hears),
        "steady": lambda hears: steady(large, recipe, RunFiles(out, low_resolution=clip), hears),
    }
    before = torch.get_num_threads(), cv2.getNumThreads()
    within, after = threads_in(calls[kind])
    assert within == {(3, 3)}
    assert after == before


def test_a_run_that_fails_leaves_the_callers_threads_too(tmp_path, broken):
    before = torch.get_num_threads(), cv2.getNumThreads()
    recipe = replace(BICUBIC, threads=3, read=ReadOptions("stop"))
    with pytest.raises(InputError):
        run(broken, recipe, RunFiles(tmp_path / "out.mkv"))
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


def test_every_clip_of_a_run_is_read_as_the_recipe_says(tmp_path, clip, large, broken, folder):
    stopping = replace(BICUBIC, read=ReadOptions("stop"))
    truth = folder / "truth.mkv"
    truth.write_bytes(large.read_bytes()[: large.stat().st_size * 2 // 3])
    out, scored = tmp_path / "out.mkv", replace(stopping, metrics=("psnr",))
    calls = {
        "the clip": lambda: run(broken, stopping, RunFiles(out)),
        "the reference": lambda: run(clip, scored, RunFiles(out, reference=truth)),
        "a given video": lambda: steady(truth, stopping, RunFiles(out, low_resolution=clip)),
        "its source": lambda: steady(large, stopping, RunFiles(out, low_resolution=broken)),
    }
    for call in calls.values():
        with pytest.raises(InputError):
            call()
        assert not out.exists()


def test_any_build_of_opencv_will_do_for_the_record(monkeypatch):
    genuine = importlib.metadata.version

    def only_headless(name):
        if name in OPENCV_BUILDS and name != "opencv-python-headless":
            raise importlib.metadata.PackageNotFoundError(name)
        return "4.9.0" if name in OPENCV_BUILDS else genuine(name)

    monkeypatch.setattr("vsr.engine.machine.version", only_headless)
    assert versions()["opencv-python"] == "4.9.0"


def test_a_session_can_be_run_step_by_step(clip):
    with Session.open(clip, BICUBIC, writes=False) as session:
        steps = list(session.steps())
        manifest = session.manifest()
    assert [step.frame.index for step in steps] == list(range(8))
    assert all(step.picture.shape == (3, 64, 80) for step in steps)
    assert all(step.checkpoint is None for step in steps)
    assert (manifest.output, manifest.frames_in, manifest.frames_out) == (None, 8, 8)


def test_leaving_a_session_early_ends_its_threads(clip, bank):
    before = set(threading.enumerate())
    files = RunFiles(models=bank)
    with Session.open(clip, Recipe("smi", scale=2.0), files, writes=False) as session:
        steps = session.steps()
        next(steps)
        steps.close()
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert not [name for name in left if not name.startswith("ThreadPool")]


@pytest.fixture(scope="module")
def bank(folder):
    make_model(folder / "bank", "a", picture(32, 40), 0)
    return folder / "bank"


def test_the_work_of_another_version_is_refused_in_one_line(tmp_path, clip):
    recipe = replace(BICUBIC, encode=replace(LOSSLESS, segment_frames=3))

    def stop(done, _):
        if done == 5:
            raise KeyboardInterrupt

    out = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        run(clip, recipe, RunFiles(out), Listener(on_progress=stop))
    written = tmp_path / ".out.mkv.vsr-work" / "run.json"
    # Plans of before had no number.
    written.write_text(written.read_text().replace('"format": 2,', ""))
    with pytest.raises(UsageError, match=r"another version of vsr .*--restart") as refusal:
        run(clip, recipe, RunFiles(out))
    assert "\n" not in str(refusal.value)
    assert run(clip, recipe, RunFiles(out, work=WorkOptions(restart=True))).frames_out == 8


def test_importing_a_module_never_hides_a_function_of_the_package():
    """Each public function is called, all modules are imported, and it is called again."""
    code = """
import importlib, pkgutil, vsr
names = [name for name in vsr.__all__ if name != "VsrError"]
def call(name):
    try:
        getattr(vsr, name)()
    except TypeError as error:
        assert "required" in str(error), error
for name in names:
    call(name)
for module in pkgutil.walk_packages(vsr.__path__, "vsr."):
    # VapourSynth needs a newer Python than the suite has.
    if not module.name.endswith(("__main__", ".vapoursynth")):
        importlib.import_module(module.name)
for name in names:
    call(name)
print("called", len(names))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("called")


def test_no_module_directly_under_the_package_bears_the_name_of_a_public_function():
    modules = {module.name for module in pkgutil.iter_modules(vsr.__path__)}
    assert not modules & set(vsr.__all__)
