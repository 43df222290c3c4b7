"""Finds the blur kernel of a clip on one of its keyframes."""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from vsr.errors import InputError
from vsr.image.blur import FACTOR
from vsr.models.kernel_file import KernelRecord
from vsr.train.keyframe import ShotChoice, check_seed, choose_shots, clip_name, read_frames
from vsr.train.methods import check_keyframe
from vsr.train.methods.kernelgan import KernelGanOptions, estimate_kernel
from vsr.train.methods.method import IterationProgress
from vsr.video.reader import open_clip
from vsr.video.shots import find_shots


def find_kernel(
    clip: str | Path,
    *,
    shots: ShotChoice = "longest",
    keyframe: int | None = None,
    seed: int = 0,
    options: KernelGanOptions = KernelGanOptions(),
    progress: IterationProgress,
    say: Callable[[str], None],
) -> KernelRecord:
    """KernelGAN's kernel of the keyframe of one shot; bicubic where no blur explains it clearly
    better.

    Raises `UsageError`, `InputError` or `ModelError`.
    """
    check_seed(seed)
    start = perf_counter()
    with open_clip(clip) as reader:
        info = reader.info
        found = find_shots(reader.frames())
    if not found:
        raise InputError(f"{clip} has no frame to look at.")
    shot = choose_shots(found, shots, keyframe)[0]
    say(f"looking for the blur kernel on frame {shot.keyframe}")
    pixels = read_frames(clip, {shot.keyframe})[shot.keyframe].pixels
    check_keyframe(pixels)
    estimate = estimate_kernel(pixels, options, seed, progress)
    kernel_fit = estimate.kernel_fit
    say(kernel_fit.summary())
    return KernelRecord(
        clip_name(info),
        shot.keyframe,
        seed,
        FACTOR,
        estimate.kernel,
        kernel_fit.basis,
        kernel_fit.mismatch,
        kernel_fit.bicubic_mismatch,
        estimate.accuracy,
        perf_counter() - start,
    )
