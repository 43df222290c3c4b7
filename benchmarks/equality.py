"""Proof that a change of the code changes no result: one set of trainings, runs and scores in two
trees, compared.

    python -m benchmarks.equality train --out BANKS            # clips, models, BANKS/models.json
    python -m benchmarks.equality run --banks BANKS --out before.json
    python -m benchmarks.equality compare before.json after.json
    python -m benchmarks.equality compare-models BANKS OTHER_BANKS

Each tree runs the first two lines in its own root. `run` reads the banks of the tree before in both
trees, so that a training that changed by rounding does not change the runs as well. Everything goes
through the command line of `vsr`, on one thread of the CPU and in a given precision (the one that
`auto` takes depends on the load). `compare` ends with 1 where a decoded frame, or a tensor
of a model that must stay equal, differs; figures that differ are only shown. Both trees have to run
on the same machine with the same packages, which `compare` checks.
"""

import argparse
import hashlib
import json
import math
import os
import platform
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from importlib.metadata import version
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
CLIPS = DATA / "clips"
PACKAGES = ("torch", "av", "numpy", "opencv-python", "scenedetect", "scipy", "lpips", "safetensors")
RATE = Fraction(25)
VARIED_STEPS = (1, 1, 2, 1, 3)
"""Durations of the frames of a clip of variable frame rate, in turn, in units of 1 / RATE."""

ROUNDING = 1e-6
"""Largest relative difference of two figures that is called rounding."""
LEAST_FIGURE = 1e-6
"""Figures below this count as this where a relative difference is taken."""
MAY_ROUND = frozenset({"faithful", "pyramid", "networks"})
"""Folders of models whose training may change by rounding, which the training then magnifies."""


@dataclass(frozen=True)
class Cut:
    """Some frames of a real clip, written losslessly."""

    source: Path
    first: int
    frames: int
    filters: tuple[tuple[str, str], ...] = ()
    """Names and arguments of libavfilter's filters."""
    is_varied: bool = False
    """Whether its frames last for `VARIED_STEPS`."""


BIKES = CLIPS / "cuts" / "bikes.mp4"
JUGGLE = CLIPS / "format" / "10bit_juggle_180p_lossless.mkv"
VID4 = CLIPS / "vid4"
CUTS = {
    "sample": Cut(ROOT / "samples" / "clip.mp4", 12, 16),
    "sample_truth": Cut(ROOT / "samples" / "clip_truth.mkv", 12, 16),
    "walk": Cut(VID4 / "walk_lrx4.mkv", 0, 12, (("crop", "112:80:36:20"),)),
    "walk_truth": Cut(VID4 / "walk_hr.mkv", 0, 12, (("crop", "448:320:144:80"),)),
    # Two shots of eight frames, enough for the cut to be seen and for both to be trained on.
    "cut": Cut(BIKES, 22, 16, (("scale", "160:68:flags=bicubic"),), is_varied=True),
    "cut_truth": Cut(BIKES, 22, 16, is_varied=True),
    # Blurred enough for `--kernel auto` to find a kernel.
    "soft": Cut(
        VID4 / "foliage_hr.mkv", 0, 5, (("gblur", "sigma=5"), ("scale", "160:96:flags=neighbor"))
    ),
    "deep": Cut(JUGGLE, 0, 6, (("crop", "96:64:112:60"),)),
}
STILLS = DATA / "stills" / "div2k_crop256" / "HR"
PICTURES = ("0810.png", "0823.png", "0840.png", "0852.png")
JUDGED = ("0856.png",)
FOREIGN = DATA / "weights" / "realesr-animevideov3.pth"
"""A network that is not vsr's own."""

SAMPLE_MODELS = ROOT / "samples" / "ckpts"

SHORT = {
    "zssr": "--method zssr --set crop_px=48 --set rate.test_every=5 --set rate.check_every=6 "
    "--set rate.window=20",
    "zssrgan": "--method zssrgan --set crop_px=48 --set rate.test_every=5 --set rate.check_every=6 "
    "--set rate.window=20 --set iterations=40 --set game.iterations=40",
    "pictures": "--images pictures --validation judged --seed 3 -y --set steps=40 "
    "--set validate_every=20",
    "small": "--set batch=2 --set crop_px=48 --set network.width=16 --set losses.perceptual=none",
    "gan": "--set discriminator_width=16",
    "live": "--metrics flicker_live,sharpness_live,lr_psnr",
    "true": "--metrics psnr_y,ssim_y,sharpness,lpips,warping_error,flicker,lr_psnr",
    "all": "--metrics psnr,ssim,ms_ssim,psnr_y,ssim_y,lpips,dists,niqe,brisque,lr_psnr,sharpness,"
    "spectrum,warping_error,flicker,tof,tlpips,flicker_live,sharpness_live",
    "segments": "--set encode.segment_frames=4",
    "per_frame": "--set policies.per_frame=true",
}
"""What stands in the lines below for longer options."""

# Whole trainings where they are cheap, else a few iterations of them.
TRAININGS = """
train-keyframe clips/sample.mkv --models sample/quick --count 3
distil clips/sample.mkv --models sample/quick
train-shot clips/sample.mkv --models sample/shot
train-keyframe clips/walk.mkv --models walk/quick --count 2 --seed 5
train-keyframe clips/walk.mkv --models walk/near --count 1 --neighbours 1
train-shot clips/walk.mkv --models walk/shot --seed 5
train-keyframe clips/walk.mkv --models walk/zssr {zssr} --set iterations=120
train-keyframe clips/walk.mkv --models walk/zssrgan {zssrgan} --regime semi-e2e
train-keyframe clips/walk.mkv --models walk/faithful --count 1 --method faithful\
 --set network.width=16 --set iterations=12
train-keyframe clips/walk.mkv --models walk/pyramid --count 1 --method pyramid\
 --set network.width=8 --set iterations=6
train-keyframe clips/cut.mkv --models cut/quick --shots all --count 2
train-shot clips/cut.mkv --models cut/shot --shots all
kernel clips/soft.mkv -o kernels/soft.json --set iterations=60 --seed 2
train-keyframe clips/soft.mkv --models soft/kernelgan {zssr} --kernel auto --set iterations=60
train-keyframe clips/soft.mkv --models soft/quick --count 1 --kernel kernels/soft.json\
 --set iterations=200
train-keyframe clips/soft.mkv --models soft/serial {zssrgan} --regime serial
train-keyframe clips/soft.mkv --models soft/fixed {zssrgan} --regime fixed
train {pictures} --method srcnn -o networks/srcnn.safetensors --set batch=4
train {pictures} --method fsrcnn -o networks/fsrcnn.safetensors
train {pictures} --method espcn -o networks/espcn.safetensors
train {pictures} --method srresnet -o networks/srresnet.safetensors {small}
train {pictures} --method srgan -o networks/srgan.safetensors {small} {gan}\
 --set losses.pixel_weight=1.0
train {pictures} --method esrgan -o networks/esrgan.safetensors {small} {gan}
train {pictures} --method stochastic -o networks/stochastic.safetensors {small} {gan}
""".strip().splitlines()

# Each begins with the name of its clip; NEW is a folder that is empty.
RUNS = """
sample --policy bicubic
sample --policy lanczos --scale 2.5
sample --policy smi --models sample/quick
sample --policy smi --models sample/quick --steady 0 --threads 2
sample --policy smi --models sample/quick --scale 2.5
sample --policy smi --models sample/quick --reference clips/sample_truth.mkv {true}
sample --policy avgi --models sample/quick --target-flicker 1.0 {live}
sample --policy ami --models sample/quick
sample --policy dsrfi --models sample/quick
sample --policy selfrec --models sample/quick
sample --policy student --models sample/quick
sample --policy shot --models sample/shot --quality fast
sample --policy shot --models sample/shot --quality balanced --reference clips/sample_truth.mkv
sample --policy shot --models sample/shot --quality best
sample --policy shot --models NEW --train-ahead
whole --policy avgi --models whole -c libx264 --crf 0
walk --policy bicubic
walk --policy smi --models walk/quick {live}
walk --policy smi --models walk/quick --target-flicker 1.0
walk --policy smi --models walk/quick --set policies.self_ensemble=true --scale 2
walk --policy avgi --models walk/quick --scale 2.5 --tile 48
walk --policy smi --models walk/near
walk --policy zssr --models walk/zssr --scale 2
walk --policy zssrgan --models walk/zssrgan --scale 2
walk --policy smi --models walk/faithful
walk --policy smi --models walk/pyramid --scale 2
walk --models walk/shot --steady 0.5
walk --upscaler networks/srcnn.safetensors
walk --upscaler networks/fsrcnn.safetensors --steady 0
walk --upscaler networks/srresnet.safetensors --scale 2.5
walk --upscaler networks/stochastic.safetensors --set sample=1
walk --upscaler foreign/realesr-animevideov3.pth --steady 0.5
cut --policy bicubic
cut --policy bicubic --steady 0.5 --scale 2.5
cut --policy smi --models cut/quick
cut --policy smi --models cut/quick --steady 0
cut --policy smi --models cut/quick --steady 0.5
cut --policy smi --models cut/quick --target-flicker 1.0
cut --policy avgi --models cut/quick
cut --policy avgi --models cut/quick --steady 0.5 {live}
cut --policy dsrfi --models cut/quick
cut --policy dsrfi --models cut/quick {per_frame} --steady 0
cut --policy selfrec --models cut/quick
cut --policy selfrec --models cut/quick {per_frame} {live}
cut --policy shot --models cut/shot
cut --policy shot --models cut/shot --steady 0
cut --policy shot --models cut/shot --target-flicker 1.0
cut --policy shot --models cut/shot --quality best --scale 2.5
soft --policy kernelgan --models soft/kernelgan
soft --policy smi --models soft/quick
soft --policy zssrgan --models soft/serial --scale 2 --set policies.projections=3
soft --policy zssrgan --models soft/fixed --scale 2
deep --policy bicubic
deep --policy smi --models walk/quick
deep --policy shot --models cut/shot --steady 0.5
""".strip().splitlines()

# The signal comes when the first segment is whole; the same command then goes on.
RESUMED = [
    (signal.SIGINT, "cut --policy smi --models cut/quick {segments}"),
    (signal.SIGKILL, "cut --policy avgi --models cut/quick --target-flicker 1.0 {segments}"),
    (signal.SIGKILL, "cut --policy dsrfi --models cut/quick {per_frame} {live} {segments}"),
    (signal.SIGINT, "cut --policy shot --models cut/shot {segments}"),
    (signal.SIGKILL, "sample --policy shot --models sample/shot --quality best {segments}"),
]
# A run whose result is steadied, its clip, and options.
STEADIED = [
    ("cut --policy bicubic", "cut", ""),
    ("cut --policy bicubic", "cut", "--target-flicker 1.0"),
    ("walk --policy bicubic", "walk", "--steady 0.5 --reference clips/walk_truth.mkv {true}"),
    ("cut --policy smi --models cut/quick --steady 0", "cut", "{live} {segments}"),
]
# A clip, a recipe, and options.
COMPARED = [
    ("walk", 'compare = ["bicubic", "smi", "avgi"]', "--models walk/quick"),
]
# Runs whose results are scored, their clip where its truth and itself are given, and options.
SCORED = [
    (["walk --policy bicubic", "walk --policy smi --models walk/quick {live}"], "walk", "{all}"),
    (["cut --policy shot --models cut/shot"], "cut", "{true} --border 4 --flow fast"),
    (["sample --policy bicubic"], None, ""),
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="make the clips and train the banks")
    train.add_argument("--out", type=Path, required=True, help="takes clips, models, models.json")
    run = commands.add_parser("run", help="upscale, steady and score the clips of the banks")
    run.add_argument("--banks", type=Path, required=True, help="what train --out made")
    run.add_argument("--out", type=Path, required=True, help="the JSON of what came out")
    run.add_argument("--keep", type=Path, help="keeps the videos in this folder")
    records = commands.add_parser("compare", help="two JSON files, of train or of run")
    banks = commands.add_parser("compare-models", help="two folders of models, tensor by tensor")
    for each in (train, run):
        each.add_argument("--only", default="", help="only the lines that hold this text")
    for each in (records, banks):
        each.add_argument("before", type=Path)
        each.add_argument("after", type=Path)
    options = parser.parse_args()
    if options.command == "train":
        train_banks(options.out.resolve(), options.only)
    elif options.command == "run":
        run_all(options.banks.resolve(), options.out, options.keep, options.only)
    elif options.command == "compare":
        sys.exit(compare_records(options.before, options.after))
    else:
        sys.exit(compare_banks(options.before, options.after))


# Training


def train_banks(folder: Path, only: str) -> None:
    """Make the clips, train every bank, and record a hash of each."""
    gather_inputs(folder)
    rows: dict[str, Json] = {}
    seconds: dict[str, float] = {}
    lines = [line for line in TRAININGS if only in line]
    for number, line in enumerate(lines):
        show(number, len(lines), line)
        before = children_seconds()
        if error := vsr(words_of(line), folder):
            rows[line] = {"error": error}
        seconds[line] = children_seconds() - before
    for path in sorted((folder / "clips").iterdir()):
        rows[f"clips/{path.name}"] = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    for path in sorted((folder / "kernels").glob("*.json")):
        kernel = json.loads(path.read_text())["kernel"]
        digest = hashlib.sha256(json.dumps(kernel).encode()).hexdigest()
        rows[f"kernels/{path.name}"] = {"sha256": digest, "figures": {"kernel": kernel}}
    for name, path in model_files(folder).items():
        rows[name] = model_row(name, path)
    write_record(folder / "models.json", rows, seconds)


def gather_inputs(folder: Path) -> None:
    """Everything that the lines above name but do not make."""
    copies = {
        "clips/whole.mp4": ROOT / "samples" / "clip.mp4",
        f"foreign/{FOREIGN.name}": FOREIGN,
        **{f"pictures/{name}": STILLS / name for name in PICTURES},
        **{f"judged/{name}": STILLS / name for name in JUDGED},
        **{f"whole/{path.name}": path for path in sorted(SAMPLE_MODELS.iterdir())[:4]},
    }
    for name in ("kernels", "networks", *(str(Path(copy).parent) for copy in copies)):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, source in copies.items():
        shutil.copy(source, folder / name)
    for name, cut in CUTS.items():
        write_cut(cut, folder / "clips" / f"{name}.mkv")


def write_cut(cut: Cut, path: Path) -> None:
    """FFV1 in the pixel format of the source; the same bytes each time."""
    bitexact = {"fflags": "+bitexact"}
    with av.open(str(cut.source)) as source, av.open(str(path), "w", options=bitexact) as out:
        video = source.streams.video[0]
        like = video.codec_context
        graph = av.filter.Graph()
        last = graph.add_buffer(template=video)
        # The last one since some filters hand on planar RGB, of which FFV1 knows none of 8 bits.
        for name, arguments in (*cut.filters, ("format", like.pix_fmt)):
            added = graph.add(name, arguments)
            last.link_to(added)
            last = added
        last.link_to(graph.add("buffersink"))
        graph.configure()
        steps = VARIED_STEPS if cut.is_varied else (1,)
        times = accumulate((steps[i % len(steps)] for i in range(cut.frames)), initial=0)
        stream = None
        for frame in islice(source.decode(video), cut.first, cut.first + cut.frames):
            graph.push(frame)
            made = graph.pull()
            if stream is None:
                stream = out.add_stream("ffv1", rate=RATE, options={"slices": "4"})
                stream.width, stream.height = made.width, made.height
                stream.pix_fmt = made.format.name
                stream.codec_context.color_range = like.color_range
                stream.codec_context.colorspace = like.colorspace
            made.pts, made.time_base = next(times), 1 / RATE
            out.mux(stream.encode(made))
        out.mux(stream.encode(None))


def model_files(folder: Path) -> dict[str, Path]:
    """By name, the models that were trained here; those of the sample were only copied."""
    paths = sorted(path for path in folder.rglob("*.safetensors") if path.parent.name != "whole")
    return {str(path.relative_to(folder)): path for path in paths}


def model_row(name: str, path: Path) -> Json:
    digest = hashlib.sha256()
    for tensor_name, tensor in sorted(load_file(path).items()):
        digest.update(repr((tensor_name, str(tensor.dtype), tensor.shape)).encode())
        digest.update(tensor.tobytes())
    with safe_open(path, framework="np") as file:
        metadata = file.metadata() or {}
    figures = {"loss": json.loads(metadata.get("loss_curve", "[]"))}
    return {"sha256": digest.hexdigest(), "figures": figures, "may_round": may_round(name)}


def may_round(name: str) -> bool:
    return not MAY_ROUND.isdisjoint(Path(name).parts)


# Running


def run_all(banks: Path, destination: Path, keep: Path | None, only: str) -> None:
    """Make every row and write what came out."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder) if keep is None else keep.resolve()
        here.mkdir(parents=True, exist_ok=True)
        work = {name: make for name, make in Runner(banks, here).rows() if only in name}
        rows: dict[str, Json] = {}
        seconds: dict[str, float] = {}
        for number, (name, make) in enumerate(work.items()):
            show(number, len(work), name)
            before = children_seconds()
            rows[name] = make()
            seconds[name] = children_seconds() - before
        write_record(destination, rows, seconds, only)


class Runner:
    """Makes the rows, in an order in which each finds the videos that it reads."""

    def __init__(self, banks: Path, here: Path) -> None:
        self._banks, self._here = banks, here
        self._videos: dict[str, Path] = {}

    def rows(self) -> Iterator[tuple[str, Callable[[], Json]]]:
        """Name of each row, and what makes it."""
        for line in RUNS:
            yield f"run {line}", partial(self._run, line)
        for ending, line in RESUMED:
            yield f"run {line}, {ending.name}, again", partial(self._run, line, ending)
        for result, clip, options in STEADIED:
            name = f"steady ({result}) {options}".strip()
            yield name, partial(self._steady, name, result, clip, options)
        for clip, recipe, options in COMPARED:
            yield f"compare {clip} {options}", partial(self._compare, clip, recipe, options)
        for number, (results, clip, options) in enumerate(SCORED):
            name = " ".join(["score", *(f"({result})" for result in results), options]).strip()
            yield name, partial(self._score, number, results, clip, options)

    def _run(self, line: str, ending: signal.Signals | None = None) -> Json:
        clip, _, options = line.partition(" ")
        source, suffix, codec = f"clips/{clip}.mkv", ".mkv", "-c ffv1"
        if clip == "whole":
            source, suffix, codec = "clips/whole.mp4", ".mp4", ""
        if "NEW" in options:
            new = self._here / "new"
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            options = options.replace("NEW", str(new))
        # Of an option that stands twice on a command line the last counts.
        command = f"run {source} --threads 1 --device cpu --dtype fp32 {codec} {options}"
        name = line if ending is None else f"{line}, {ending.name}"
        return self._video(name, words_of(command), suffix, ending)

    def _steady(self, name: str, result: str, clip: str, options: str) -> Json:
        if result not in self._videos:
            return {"error": f"there is no result of {result}"}
        video, low = self._videos[result], f"clips/{clip}.mkv"
        command = f"--low-resolution {low} --device cpu -c ffv1 {options}"
        return self._video(name, ["steady", str(video), *words_of(command)], ".mkv", None)

    def _video(
        self, name: str, command: list[str], suffix: str, ending: signal.Signals | None
    ) -> Json:
        """Run a command that writes a video, and look at that and at its manifest."""
        stem = self._here / hashlib.sha256(name.encode()).hexdigest()[:12]
        video, record, work = (stem.with_suffix(each) for each in (suffix, ".json", ".work"))
        for path in (video, record):
            path.unlink(missing_ok=True)
        command = [*command, "-o", str(video), "--json", str(record)]
        if ending is not None:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            command += ["--work-dir", str(work)]
            end_after_first_segment(command, self._banks, work, ending)
        if error := vsr(command, self._banks):
            return {"error": error}
        self._videos[name] = video
        manifest = json.loads(record.read_text())
        if ending is not None and not manifest["resumed_at_frame"]:
            return {"error": "the second run did not go on with the first"}
        facts = ("frames_in", "frames_out", "models", "shots", "streams_kept", "damage")
        figures = ("metrics", "steady", "max_pts_error_seconds")
        return decoded_row(video) | {
            "facts": {key: manifest[key] for key in facts}
            | {"decisions": len(manifest["decisions"])},
            "figures": {key: manifest[key] for key in figures},
        }

    def _compare(self, clip: str, recipe: str, options: str) -> Json:
        path, record = self._here / "compare.toml", self._here / "compare.json"
        path.write_text(recipe + "\n")
        command = f"run clips/{clip}.mkv --reference clips/{clip}_truth.mkv --device cpu {options}"
        command += " --threads 1 --dtype fp32"
        written = ["--recipe", str(path), "--json", str(record)]
        if error := vsr([*words_of(command), *written], self._banks):
            return {"error": error}
        manifests = {each["policy"]: each for each in json.loads(record.read_text())}
        return {
            "facts": {policy: len(each["decisions"]) for policy, each in manifests.items()},
            "figures": {
                policy: {key: each[key] for key in ("metrics", "steady")}
                for policy, each in manifests.items()
            },
        }

    def _score(self, number: int, results: Sequence[str], clip: str | None, options: str) -> Json:
        if missing := [result for result in results if result not in self._videos]:
            return {"error": f"there is no result of {', '.join(missing)}"}
        record = self._here / f"score-{number}.json"
        videos = [str(self._videos[result]) for result in results]
        if clip is not None:
            options += f" --reference clips/{clip}_truth.mkv --low-resolution clips/{clip}.mkv"
        command = ["score", *videos, *words_of(options), "--json", str(record)]
        if error := vsr(command, self._banks):
            return {"error": error}
        # The ranking names its results by their files, which lie elsewhere each time.
        scores = json.loads(record.read_text().replace(f"{self._here}/", ""))
        each = scores.get("results", [scores])
        measured = [{key: one.get(key) for key in ("metrics", "baseline")} for one in each]
        return {
            "facts": {"frames": [one["frames"] for one in each]},
            "figures": {"results": measured, "ranking": scores.get("ranking")},
        }


def decoded_row(path: Path) -> Json:
    """A hash over the planes and times of a video, and what helps to see where two videos part."""
    whole = hashlib.sha256()
    each, levels = [], []
    with av.open(str(path)) as film:
        for frame in film.decode(film.streams.video[0]):
            time_told = str(frame.pts * frame.time_base)
            digest = hashlib.sha256(
                repr((frame.format.name, frame.width, frame.height, time_told)).encode()
            )
            planes = [samples(plane, frame.format) for plane in frame.planes]
            for plane in planes:
                digest.update(plane.tobytes())
            whole.update(digest.digest())
            each.append(digest.hexdigest()[:12])
            levels.append(float(planes[0].mean()))
    return {"sha256": whole.hexdigest(), "frames": each, "levels": levels}


def samples(plane: av.video.plane.VideoPlane, layout: av.VideoFormat) -> np.ndarray:
    """The samples of a plane, without what pads its rows: (height, samples of a row)."""
    sample_bytes = -(-layout.components[0].bits // 8)
    pixel_bytes = sample_bytes if layout.is_planar else layout.padded_bits_per_pixel // 8
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    row_bytes = plane.width * pixel_bytes
    return np.ascontiguousarray(rows[:, :row_bytes]).view(np.dtype(f"<u{sample_bytes}"))


# The command line of vsr


def words_of(line: str) -> list[str]:
    return shlex.split(line.format(**SHORT))


def vsr(arguments: Sequence[str], folder: Path) -> str:
    """Run a command in a folder to its end; exit code and last line of one that failed, else ""."""
    process = start(arguments, folder)
    _, said = process.communicate()
    if not process.returncode:
        return ""
    lines = said.decode(errors="replace").strip().splitlines()
    error = f"exit {process.returncode}: {lines[-1] if lines else ''}"
    print(f"  {error}", file=sys.stderr, flush=True)
    return error


def end_after_first_segment(
    command: Sequence[str], folder: Path, work: Path, ending: signal.Signals
) -> None:
    """Start a run, and end it as soon as one segment of its output is whole."""
    process = start(command, folder)
    while process.poll() is None and not any(work.rglob("segment*.json")):
        time.sleep(0.002)
    process.send_signal(ending)
    process.communicate()


def start(arguments: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "vsr", *arguments],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def environment(folder: Path) -> dict[str, str]:
    """This tree's package, one thread, no GPU, the weights of the shared data, no user's models."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VSR_")}
    return kept | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OPENCV_FOR_THREADS_NUM": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "VSR_WEIGHTS": os.pathsep.join(str(DATA / name) for name in ("weights", "metric-params")),
        "VSR_CACHE": str(folder / "cache"),
    }


def children_seconds() -> float:
    """CPU seconds of all ended child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(number: int, total: int, line: str) -> None:
    print(f"{number + 1:3} of {total}: {line}", file=sys.stderr, flush=True)


# Records and their comparison


def write_record(
    path: Path, rows: dict[str, Json], seconds: dict[str, float], only: str = ""
) -> None:
    """Write rows with what they depend on; `only` is a text that the names of all hold."""
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    machine = {"processor": processor(), "python": platform.python_version()}
    record = {
        "machine": machine | {package: version(package) for package in PACKAGES},
        "commit": commit.stdout.strip(),
        "only": only,
        "cpu_seconds": {name: round(value, 2) for name, value in seconds.items()},
        "rows": rows,
    }
    path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    failed = sum("error" in row for row in rows.values())
    spent = sum(seconds.values())
    print(f"{path}: {len(rows)} rows, {failed} failed, {spent:.0f} CPU seconds", file=sys.stderr)


def processor() -> str:
    """Name and instructions of this CPU, by which kernels and with them the rounding are chosen."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    parts = (line.partition(":") for line in lines)
    told = {name.strip(): value.strip() for name, _, value in parts}
    flags = hashlib.sha256(told.get("flags", "").encode()).hexdigest()[:8]
    return f"{told.get('model name', 'unknown')}, model {told.get('model', '?')}, flags {flags}"


def compare_records(before: Path, after: Path) -> int:
    """Print a table of all rows; 1 where frames or tensors differ that must not."""
    one, other = (json.loads(path.read_text()) for path in (before, after))
    for name in one["machine"].keys() | other["machine"].keys():
        here, there = one["machine"].get(name), other["machine"].get(name)
        if here != there:
            print(f"WARNING: not comparable, {name} was {here} and is {there}")
    print(f"{before}: {one['commit']}\n{after}: {other['commit']}\n")
    print("| row | verdict | detail |\n|---|---|---|")
    verdicts: Counter[str] = Counter()
    faults = 0
    parts = [record.get("only", "") for record in (one, other)]
    names = [name for name in one["rows"] | other["rows"] if all(part in name for part in parts)]
    for name in names:
        verdict, detail, is_fault = compare_rows(one["rows"].get(name), other["rows"].get(name))
        verdicts[verdict] += 1
        faults += is_fault
        print(f"| {name} | {verdict} | {detail} |")
    print("\n" + ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()))
    both = one["cpu_seconds"].keys() & other["cpu_seconds"].keys()
    spent = [sum(record["cpu_seconds"][name] for name in both) for record in (one, other)]
    print(f"CPU seconds, loading included: {spent[0]:.0f} before, {spent[1]:.0f} after")
    print(
        "FAILED: results have changed" if faults else "no frame or tensor that must not change did"
    )
    return int(faults > 0)


def compare_rows(before: Json | None, after: Json | None) -> tuple[str, str, bool]:
    """Verdict, detail, and whether this must not be."""
    if before is None or after is None:
        return "MISSING", f"in the {'first' if before is None else 'second'}", True
    if "error" in before or "error" in after:
        errors = [row.get("error", "no error") for row in (before, after)]
        return "FAILS", " / ".join(dict.fromkeys(errors)), True
    notes = []
    is_parted = before.get("sha256") != after.get("sha256")
    if is_parted and "frames" in before:
        notes.append(where_frames_part(before, after))
    largest, where, strangers = largest_difference(before.get("figures"), after.get("figures"))
    if largest:
        notes.append(f"figures within {largest:.1e}, most in {where}")
    if strangers:
        more = ", ..." if len(strangers) > 3 else ""
        notes.append(
            f"{len(strangers)} figures of one side alone: {', '.join(strangers[:3])}{more}"
        )
    facts, later = before.get("facts", {}), after.get("facts", {})
    changed = [key for key in facts | later if facts.get(key) != later.get(key)]
    notes += [f"{key}: {facts.get(key)} -> {later.get(key)}" for key in changed]
    detail = "; ".join(notes)
    if is_parted and before.get("may_round"):
        return "other tensors, as may be", detail, False
    if is_parted:
        return "DIFFERENT", detail, True
    if largest > ROUNDING or strangers or changed:
        return "other figures", detail, False
    return ("within rounding" if largest else "equal"), detail, False


def where_frames_part(before: Json, after: Json) -> str:
    one, other = before["frames"], after["frames"]
    if len(one) != len(other):
        return f"{len(one)} -> {len(other)} frames"
    parted = [
        number for number, pair in enumerate(zip(one, other, strict=True)) if len(set(pair)) > 1
    ]
    levels = zip(before["levels"], after["levels"], strict=True)
    change = max(abs(a - b) for a, b in levels)
    return f"{len(parted)} of {len(one)} frames, first {parted[0]}, means change by {change:.1e}"


def largest_difference(before: Any, after: Any) -> tuple[float, str, list[str]]:
    """Largest relative difference of two trees of figures, its place, and what one alone has."""
    one, other = dict(leaves(before)), dict(leaves(after))
    strangers = one.keys() ^ other.keys()
    largest, where = 0.0, ""
    for path in one.keys() & other.keys():
        a, b = one[path], other[path]
        if a is None or b is None:
            if a is not b:
                strangers.add(path)
            continue
        difference = abs(a - b) / max(abs(a), abs(b), LEAST_FIGURE)
        if difference > largest:
            largest, where = difference, path
    return largest, where, sorted(strangers)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, float | None]]:
    """Numbers and gaps by their paths; words are left out, since messages may be worded anew."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(each, f"{path}/{key}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from leaves(each, f"{path}/{number}")
    elif not isinstance(value, str):
        yield path, value


def compare_banks(before: Path, after: Path) -> int:
    """Print a table of all models; 1 where tensors differ that must not."""
    ours, theirs = model_files(before), model_files(after)
    print("| model | verdict | detail |\n|---|---|---|")
    faults = 0
    for name in ours | theirs:
        if name not in ours or name not in theirs:
            verdict, detail = "MISSING", f"in {before if name not in ours else after}"
        else:
            verdict, detail = compare_tensors(load_file(ours[name]), load_file(theirs[name]))
        faults += verdict == "MISSING" or (verdict != "equal" and not may_round(name))
        print(f"| {name} | {verdict} | {detail} |")
    print("FAILED: models have changed" if faults else "no model that must not change did")
    return int(faults > 0)


def compare_tensors(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> tuple[str, str]:
    """Verdict and detail."""
    kinds = [
        {name: (str(each.dtype), each.shape) for name, each in tensors.items()}
        for tensors in (before, after)
    ]
    if kinds[0] != kinds[1]:
        other = [name for name in before | after if kinds[0].get(name) != kinds[1].get(name)]
        return "DIFFERENT", f"other names or shapes: {', '.join(other[:4])}"
    if all(before[name].tobytes() == after[name].tobytes() for name in before):
        return "equal", ""
    apart = {name: before[name].astype(np.float64) - after[name] for name in before}
    worst = max(apart, key=lambda name: np.abs(apart[name]).max(initial=0))
    largest = np.abs(apart[worst]).max()
    moved = sum(float(np.square(each).sum()) for each in apart.values())
    whole = sum(float(np.square(each.astype(np.float64)).sum()) for each in before.values())
    share = math.sqrt(moved / whole)
    return "different", f"by up to {largest:.1e} in {worst}; {share:.1e} of the root mean square"


if __name__ == "__main__":
    main()
