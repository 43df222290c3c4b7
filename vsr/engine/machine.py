"""Things that the bits of a result depend on beside its options: versions, processor, threads."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from vsr import __version__

RECORDED_PACKAGES = ("torch", "av", "numpy", "opencv-python", "scenedetect")
OPENCV_BUILDS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
"""Distributions that bring the same module; any of them will do."""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    ours = {"python": platform.python_version(), "vsr": __version__}
    return ours | {package: _version(package) for package in RECORDED_PACKAGES}


def _version(package: str) -> str:
    """The version of an installed package, or `unknown`, as where it runs from a mere folder."""
    for name in OPENCV_BUILDS if package in OPENCV_BUILDS else (package,):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"


def machine(threads: int) -> dict[str, str]:
    """Describe this process as far as results depend on it; equal descriptions give equal bits.

    Encoders divide a picture among the cores that they see, so those count as well.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return versions() | {
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": torch.backends.cpu.get_cpu_capability(),
        "cores": str(cores),
        "gpu": gpu,
        "threads": str(threads),
    }
