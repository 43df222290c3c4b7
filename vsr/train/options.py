"""Options of trainings, as commands and Python calls have them.

`--set` reaches the options of the methods themselves, which lie beside each method.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vsr.models.prior import PriorChoice
from vsr.records import option
from vsr.video.reader import ReadOptions

AUTO = "auto"
"""Kernel that is estimated on the clip."""
MAX_SEED = 2**31 - 1
MAX_KEYFRAME_NEIGHBORS = 8
"""Largest number of frames on each side of the keyframe. Farther frames show little of the same
scene, and each takes memory in every process."""


@dataclass(frozen=True)
class KeyframeTraining:
    """Options of `vsr train-keyframe`."""

    count: int | None = option(
        None, "Models for each keyframe; default: 15 (zssr and zssrgan: 1).", "--count", at_least=1
    )
    shots: int | Literal["longest", "all"] = option(
        "longest",
        "Shots to train on; N counts from 0.",
        "--shots",
        metavar="longest|all|N",
        at_least=0,
    )
    keyframe: int | Literal["auto", "all"] = option(
        "auto",
        "Number of the frame to train on, from 0; all: a model of each, for policy baseline.",
        "--keyframe",
        metavar="auto|N|all",
        at_least=0,
    )
    seed: int = option(
        0,
        "Seed of the first model; later models count up.",
        "--seed",
        at_least=0,
        at_most=MAX_SEED,
    )
    method: str = option("quick", "quick, faithful, pyramid, zssr or zssrgan.", "--method")
    full: bool = option(False, "zssr, zssrgan: use the published schedule.", "--full")
    regime: str | None = option(None, "zssrgan: fixed, serial or semi-e2e.", "--regime")
    kernel: str | None = option(
        None,
        "quick, zssr, zssrgan: blur kernel to undo (see vsr kernel).",
        "--kernel",
        metavar="FILE|auto|kernelgan",
    )
    neighbours: int = option(
        0,
        "Train with a temporal loss over N frames on each side of the keyframe.",
        "--neighbours",
        metavar="N",
        at_least=0,
        at_most=MAX_KEYFRAME_NEIGHBORS,
    )
    budget_seconds: float | None = option(
        None,
        "quick: seconds for all models together; default: a fixed number of iterations.",
        "--budget-seconds",
        metavar="S",
        above=0,
    )
    device: str = option(
        "auto", "auto, cpu, cuda or cuda:N; zssr and zssrgan train on the CPU.", "--device"
    )
    cluster: str | None = option(
        None,
        "Train on a Ray cluster: auto starts one on this machine, an address joins one.",
        "--cluster",
        metavar="auto|ADDRESS",
    )
    read: ReadOptions = ReadOptions()


@dataclass(frozen=True)
class ShotTraining:
    """Options of `vsr train-shot`."""

    shots: int | Literal["longest", "all"] = option(
        "longest",
        "Shots to train on; N counts from 0.",
        "--shots",
        metavar="longest|all|N",
        at_least=0,
    )
    budget_seconds: float | None = option(
        None,
        "Seconds for each model; default: a fixed number of iterations.",
        "--budget-seconds",
        metavar="S",
        above=0,
    )
    kernel: str | None = option(
        None,
        "The blur to undo (see vsr kernel); auto estimates it for each shot.",
        "--kernel",
        metavar="FILE|auto",
    )
    prior: PriorChoice = option(
        "auto",
        "Begin with the shipped prior for --quality fast, balanced (as auto) or best, or from "
        "random weights: none.",
        "--prior",
    )
    restore: float | Literal["auto"] = option(
        "auto",
        "Know compressed, noisy and blurred shots for what they are: 0 not, 1 in full; auto as far "
        "as they are degraded.",
        "--restore",
        metavar="0..1|auto",
        at_least=0,
        at_most=1,
    )
    seed: int = option(0, "Seed of every model.", "--seed", at_least=0, at_most=MAX_SEED)
    device: str = option("auto", "auto, cpu, cuda or cuda:N.", "--device")
    cluster: str | None = option(
        None,
        "Train on a Ray cluster: auto starts one on this machine, an address joins one.",
        "--cluster",
        metavar="auto|ADDRESS",
    )
    read: ReadOptions = ReadOptions()


@dataclass(frozen=True)
class Distilling:
    """Options of `vsr distil`."""

    teacher: str = option(
        "avgi", "Policy whose output the student learns to reproduce: avgi.", "--teacher"
    )
    seed: int = option(0, "Seed of the student.", "--seed", at_least=0, at_most=MAX_SEED)
    device: str = option("auto", "auto, cpu, cuda or cuda:N.", "--device")
    read: ReadOptions = ReadOptions()
    """Options of reading: those that the models were trained with."""


@dataclass(frozen=True)
class KernelSearch:
    """Options of `vsr kernel`."""

    method: Literal["cross-scale", "kernelgan"] = option(
        "cross-scale",
        "cross-scale: by the picture's spectra; kernelgan: the published game, worse and slower.",
        "--method",
    )
    shots: int | Literal["longest"] = option(
        "longest",
        "Shot whose keyframe is examined; N counts from 0.",
        "--shots",
        metavar="longest|N",
        at_least=0,
    )
    keyframe: int | Literal["auto"] = option(
        "auto",
        "Number of the frame to examine, from 0.",
        "--keyframe",
        metavar="auto|N",
        at_least=0,
    )
    seed: int = option(0, "Seed of the search.", "--seed", at_least=0, at_most=MAX_SEED)
    read: ReadOptions = ReadOptions()


@dataclass(frozen=True)
class DatasetTraining:
    """Options of `vsr train`."""

    method: str = option(
        "fsrcnn",
        "srcnn, fsrcnn, espcn, srresnet, srgan, esrgan, esrgan-fft, stochastic or shot-prior.",
        "--method",
    )
    validation: Path | None = option(
        None,
        "Pictures to validate the network on during training.",
        "--validation",
        metavar="DIR",
    )
    scale: int = option(4, "Enlargement, 2 to 8.", "-s", "--scale", at_least=2, at_most=8)
    start: Path | None = option(
        None,
        "Start from the weights of this network; its layers may differ (shot-prior: be narrower).",
        "--start",
        metavar="FILE",
    )
    seed: int = option(0, "Seed of the training.", "--seed", at_least=0, at_most=MAX_SEED)
    device: str = option("auto", "auto, cpu, cuda or cuda:N.", "--device")
    restart: bool = option(
        False, "Discard the state of a stopped training and start over.", "--restart"
    )
    overwrite: bool = option(False, "Replace an existing output.", "-y", "--overwrite")
