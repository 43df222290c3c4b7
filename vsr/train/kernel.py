"""Finds the blur kernel of a clip on one of its keyframes."""

from functools import partial
from pathlib import Path
from time import perf_counter

from vsr.image.blur import FACTOR
from vsr.models.kernel_file import KernelRecord
from vsr.train.clip import (
    choose_shots,
    clip_name,
    read_frames,
    shots_of_clip,
)
from vsr.train.fit import ProgressAggregator, TrainingListener
from vsr.train.methods import check_keyframe
from vsr.train.methods.kernelgan import KernelGanOptions, estimate_kernel
from vsr.train.methods.published_kernelgan import (
    PublishedKernelGanOptions,
    estimate_kernel_as_published,
)
from vsr.train.options import KernelSearch


def find_kernel(
    clip: str | Path,
    search: KernelSearch,
    options: KernelGanOptions | PublishedKernelGanOptions,
    listener: TrainingListener = TrainingListener(),
) -> KernelRecord:
    """Estimate the blur kernel of the keyframe of one shot by the method whose options these are.
    Across scales it is bicubic where no blur explains the picture clearly better.

    Raises `UsageError`, `InputError`, `ModelError`, or `InterruptedRunError` where the listener
    asks for an end.
    """
    start = perf_counter()
    info, found = shots_of_clip(clip, search.read)
    shot = choose_shots(found, search.shots, search.keyframe)[0]
    listener.notify(f"estimating the blur kernel of frame {shot.keyframe}")
    pixels = read_frames(clip, {shot.keyframe}, search.read)[shot.keyframe].pixels
    check_keyframe(pixels)
    gather = ProgressAggregator(1, listener)
    report = partial(gather.update, 0)
    if isinstance(options, PublishedKernelGanOptions):
        estimate = estimate_kernel_as_published(
            pixels, options, search.seed, report, listener.should_stop
        )
    else:
        estimate = estimate_kernel(pixels, options, search.seed, report, listener.should_stop)
    kernel_fit = estimate.kernel_fit
    listener.notify(kernel_fit.summary())
    return KernelRecord(
        clip_name(info),
        shot.keyframe,
        search.seed,
        FACTOR,
        estimate.kernel,
        kernel_fit.basis,
        kernel_fit.mismatch,
        kernel_fit.bicubic_mismatch,
        estimate.accuracy,
        perf_counter() - start,
    )
