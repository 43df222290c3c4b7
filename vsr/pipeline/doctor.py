"""Checks of this machine: everything that a run depends on is tried, with advice where it falls
short."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import torch

from vsr.engine.convolutions import fused_activation_works
from vsr.engine.machine import versions
from vsr.engine.precision import AUTO, bf16_speedup, dtype_name
from vsr.errors import OutputError, UsageError
from vsr.metrics import METRICS
from vsr.models.weights import LOSS_WEIGHTS, find_weights
from vsr.train.workers import available_cores
from vsr.video.frames import ClipInfo, ColorDescription
from vsr.video.write.encoders import ENCODERS, EncodeOptions, open_failure, plan_video

GIB = 2**30
MIN_FREE_DISK_BYTES = 2 * GIB
MIN_FREE_MEMORY_BYTES = 2 * GIB
"""A 720p result of fifteen models takes about 1 GiB."""

CheckState = Literal["good", "fair", "bad", "untried"]
"""`fair`: works, but could be better; `bad`: something that vsr does will fail; `untried`: nothing
is known."""


@dataclass(frozen=True)
class CheckResult:
    """Finding of one check."""

    subject: str
    state: CheckState
    found: str
    advice: str = ""
    """Remedy; empty where all is well."""


def run_checks(folder: Path) -> Iterator[CheckResult]:
    """Run every check, cheapest first; `folder` is where results would be written."""
    checks: list[Callable[[], Iterator[CheckResult]]] = [
        _versions,
        _processor,
        _gpus,
        _encoders,
        _weights,
        _memory,
    ]
    for check in checks:
        yield from check()
    for place, purpose in ((folder, "results"), (Path(tempfile.gettempdir()), "temporary files")):
        yield _disk(place, purpose)


def _versions() -> Iterator[CheckResult]:
    yield CheckResult(
        "versions",
        "good",
        ", ".join(f"{package} {number}" for package, number in versions().items()),
    )


def _processor() -> Iterator[CheckResult]:
    usable = available_cores()
    found = (
        f"{usable} cores, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} "
        "threads"
    )
    # An environment that was set for another program slows every run down unseen.
    limited = torch.get_num_threads() < usable
    advice = "OMP_NUM_THREADS limits the threads; unset it" if limited else ""
    yield CheckResult("CPU", "fair" if limited else "good", found, advice)
    gain = bf16_speedup()
    chosen = dtype_name(AUTO, torch.device("cpu"))
    yield CheckResult(
        "CPU precision",
        "good",
        f"bf16 runs at {gain:.2f} times the speed of fp32; auto takes {chosen}",
    )
    if not fused_activation_works(torch.float32):
        yield CheckResult(
            "fused convolution",
            "fair",
            "this torch lacks it",
            "networks run a few per cent slower; nothing to do",
        )


def _gpus() -> Iterator[CheckResult]:
    if not torch.cuda.is_available():
        built = (
            f"torch is built for CUDA {torch.version.cuda}"
            if torch.version.cuda
            else "torch is built without CUDA"
        )
        yield CheckResult("GPU", "good", f"none; {built}. All of vsr runs on the CPU")
    for index in range(torch.cuda.device_count()):
        free, whole = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        dtypes = "fp32, fp16" + (", bf16" if torch.cuda.is_bf16_supported() else "")
        found = f"{name}, {free / GIB:.1f} of {whole / GIB:.1f} GiB free, {dtypes}: auto takes fp16"
        advice = (
            ""
            if free >= MIN_FREE_MEMORY_BYTES
            else "another program fills its memory; end it, or use --tile"
        )
        yield CheckResult(f"cuda:{index}", "fair" if advice else "good", found, advice)


def _encoders() -> Iterator[CheckResult]:
    for codec in ENCODERS:
        if codec.endswith("_nvenc") and not torch.cuda.is_available():
            yield CheckResult(
                f"encoder {codec}",
                "untried",
                "it needs an NVIDIA GPU",
                "nothing; without one runs are encoded on the CPU",
            )
            continue
        reason = _encoder_error(codec)
        if reason is None:
            yield CheckResult(f"encoder {codec}", "good", "opens")
        else:
            yield CheckResult(
                f"encoder {codec}", "fair", f"does not open: {reason}", f"leave out -c {codec}"
            )
    program = shutil.which("ffmpeg")
    yield CheckResult(
        "ffmpeg program", "good", program or "none; it is needed for -c ffmpeg:NAME alone"
    )


def _encoder_error(codec: str) -> str | None:
    source = ClipInfo(
        path=Path("-"),
        container="",
        codec="",
        width=640,
        height=360,
        pixel_format="yuv420p",
        color=ColorDescription(),
        time_base=Fraction(1, 25),
        average_rate=Fraction(25),
        sample_aspect_ratio=None,
        rotation_degrees=0,
        num_frames_from_header=None,
        duration_seconds_from_header=None,
        identity="",
    )
    try:
        return open_failure(plan_video(source, 720, 1280, codec, EncodeOptions(), "matroska"))
    except (OutputError, UsageError, av.FFmpegError, ValueError) as error:
        return str(error)


def _weights() -> Iterator[CheckResult]:
    lacking = [
        name
        for name, metric in METRICS.items()
        if metric.weights
        and ":" not in name
        and all(
            any(find_weights(file.patterns) is None for file in files) for files in metric.weights
        )
    ]
    if lacking:
        advice = "vsr weights lists the files, their sources and the folders to put them in"
        yield CheckResult("weights of metrics", "fair", f"none for {', '.join(lacking)}", advice)
    else:
        yield CheckResult("weights of metrics", "good", "all found")
    without = [
        name
        for name, files in LOSS_WEIGHTS.items()
        if any(find_weights(file.patterns) is None for file in files)
    ]
    found = f"none for {', '.join(without)}" if without else "all found"
    advice = "only vsr train needs them; vsr weights lists their sources" if without else ""
    yield CheckResult("weights of losses", "fair" if without else "good", found, advice)


def _memory() -> Iterator[CheckResult]:
    table = Path("/proc/meminfo")
    if not table.exists():
        return
    sizes = dict(line.split(":") for line in table.read_text().splitlines())
    free, whole = (int(sizes[name].split()[0]) * 1024 for name in ("MemAvailable", "MemTotal"))
    advice = "" if free >= MIN_FREE_MEMORY_BYTES else "end other programs, or use a smaller --scale"
    yield CheckResult(
        "memory",
        "fair" if advice else "good",
        f"{free / GIB:.1f} of {whole / GIB:.1f} GiB free",
        advice,
    )


def _disk(place: Path, purpose: str) -> CheckResult:
    subject = f"disk for {purpose}"
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return CheckResult(
            subject, "bad", f"{place}: {error.strerror}", "name a folder that exists"
        )
    # A disk with room may still be mounted read-only.
    if not os.access(place, os.W_OK):
        return CheckResult(
            subject,
            "bad",
            f"{place} cannot be written to",
            "run vsr in another folder, or name one with -o",
        )
    advice = (
        ""
        if free >= MIN_FREE_DISK_BYTES
        else "make room: unfinished work is kept beside the result"
    )
    return CheckResult(
        subject, "fair" if advice else "good", f"{free / GIB:.1f} GiB free in {place}", advice
    )
