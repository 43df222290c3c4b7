"""The plan of a training on a keyframe: a method with the options that a user asked for, and a name
for the two together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path

import torch

from vsr.errors import UsageError
from vsr.image.blur import FACTOR, KernelTaps, none_if_bicubic
from vsr.models.kernel_file import kernel_summary, read_kernel
from vsr.models.networks.kernelgan import KERNEL_SIDE
from vsr.records import with_settings
from vsr.restore.cross_scale import CrossScaleSpectrum
from vsr.train.budget import budget_label
from vsr.train.clip import short_hash
from vsr.train.methods import METHODS
from vsr.train.methods.kernelgan import KernelEstimate, KernelGanOptions, estimate_kernel
from vsr.train.methods.method import Method
from vsr.train.methods.published_kernelgan import (
    PublishedKernelGanOptions,
    estimate_kernel_as_published,
)
from vsr.train.methods.zssrgan import ZssrGanOptions
from vsr.train.options import AUTO
from vsr.train.workers import TrainingJob

CROSS_SCALE, KERNELGAN = "cross-scale", "kernelgan"
ESTIMATORS = (AUTO, CROSS_SCALE, KERNELGAN)
"""Words in the place of a kernel's file; `auto` is across scales."""


@dataclass(frozen=True)
class TrainingPlan:
    """A method, ready but for a kernel that is still to be estimated."""

    method: Method
    label: str
    """Tells apart what was trained with different options; part of the models' names."""
    estimate: bool = False
    """Whether each keyframe's kernel is to be estimated first."""
    estimator: str = CROSS_SCALE
    """`KERNELGAN` for the published game."""
    plain: Method | None = None
    """The method for keyframes that turn out not to be blurred, where a kernel would bind it to
    steps of 2."""

    def advice(self, keyframe: torch.Tensor) -> str | None:
        """Advise on a blur of the keyframe, (3, H, W), that this training would take no notice
        of."""
        options = self.method.options
        if (
            self.estimate
            or isinstance(options, ZssrGanOptions)
            or getattr(options, "kernel", ()) is not None
        ):
            return None
        if not CrossScaleSpectrum(keyframe).fit(KERNEL_SIDE).is_blur:
            return None
        return (
            "the clip is blurrier than bicubic downscaling explains: --kernel auto estimates "
            "the blur and trains to undo it"
        )

    def with_kernels(
        self, jobs: Sequence[TrainingJob], notify: Callable[[str], None]
    ) -> list[TrainingJob]:
        """Give each job its keyframe's kernel where one is to be estimated; all of a keyframe share
        it."""
        found: dict[str, KernelTaps] = {}
        if not self.estimate:
            return list(jobs)
        for job in jobs:
            if job.card.keyframe_hash not in found:
                notify(
                    f"estimating the blur kernel of frame {job.card.keyframe} (takes a few seconds)"
                )
                # One seed for all: what is added to a bank later must have the same kernel.
                estimate = self._estimate(job.pixels)
                found[job.card.keyframe_hash] = estimate.kernel
                notify(
                    f"frame {job.card.keyframe}: {estimate.kernel_fit.summary()}; "
                    f"{kernel_summary(estimate.kernel)}"
                )
        return [self._with_kernel(job, found[job.card.keyframe_hash]) for job in jobs]

    def _estimate(self, keyframe: torch.Tensor) -> KernelEstimate:
        if self.estimator == KERNELGAN:
            options = PublishedKernelGanOptions()
            return estimate_kernel_as_published(keyframe, options, 0, lambda *_: None)
        return estimate_kernel(keyframe, KernelGanOptions(), 0, lambda *_: None)

    def _with_kernel(self, job: TrainingJob, kernel: KernelTaps) -> TrainingJob:
        if self.plain is None or none_if_bicubic(kernel) is not None:
            return replace(job, method=_with_kernel(job.method, kernel))
        # No blur to undo: the steps of the plain recipe, which are smaller and sharper.
        ratio = self.plain.options.step_ratio
        return replace(
            job,
            method=self.plain,
            card=replace(job.card, kernel=None, scale_factors=(ratio, ratio)),
        )


def plan_training(
    name: str,
    *,
    full: bool = False,
    regime: str | None = None,
    settings: Sequence[str] = (),
    kernel: str | Path | None = None,
    neighbours: int = 0,
    iterations: int | None = None,
) -> TrainingPlan:
    """Plan the training that these options mean. Raises `UsageError` for what cannot be meant."""
    method = _find_method(name)
    _check_neighbors(neighbours, name, method)
    label = [name]
    if full:
        if method.full is None:
            raise UsageError(
                "--full is only for methods whose default schedule is shorter than the published "
                f"one: {_methods_with('full')}."
            )
        method = replace(method, options=method.full)
        label.append("full")
    if regime is not None:
        if not _has_option(method, "regime"):
            raise UsageError(
                f"--regime is not for method {name}; it is for {_methods_with_option('regime')}."
            )
        method = replace(method, options=with_settings(method.options, [f"regime={regime}"]))
        label.append(regime)
    if iterations is not None:
        method = replace(method, options=replace(method.options, iterations=iterations))
        label.append(budget_label(iterations))
    if settings:
        method = replace(method, options=with_settings(method.options, settings))
        # In any order the same settings are the same training.
        label.append(short_hash("\n".join(sorted(settings))))
    if kernel is not None and not _has_option(method, "kernel"):
        raise UsageError(
            f"--kernel is not for method {name}; it is for {_methods_with_option('kernel')}."
        )
    # ZSSRGAN finds its kernel by itself.
    estimate, plain = str(kernel) in ESTIMATORS and name != "zssrgan", None
    if str(kernel) == KERNELGAN and name == "zssrgan":
        raise UsageError("--kernel kernelgan is not for zssrgan, which finds its kernel by itself.")
    if estimate:
        plain = method if _has_option(method, "step_ratio") else None
        label.append("kernelgan" if str(kernel) == KERNELGAN else "kernel")
        # Its own, once it is found; until then one that makes the card say that there is one.
        method = _with_kernel(method, ((1.0,),))
    elif kernel is not None and str(kernel) not in ESTIMATORS:
        rows = read_kernel(Path(kernel))
        method = _with_kernel(method, rows)
        label.append(f"kernel_{short_hash(repr(rows))}")
    if neighbours:
        label.append(f"n{neighbours}")
    return TrainingPlan(
        method,
        "-".join(label),
        estimate,
        KERNELGAN if str(kernel) == KERNELGAN else CROSS_SCALE,
        plain,
    )


def _with_kernel(method: Method, kernel: KernelTaps) -> Method:
    options = replace(method.options, kernel=kernel)
    # Those of ZSSR are steps of 2 in any case.
    return replace(
        method,
        options=replace(options, step_ratio=float(FACTOR))
        if _has_option(method, "step_ratio")
        else options,
    )


def _has_option(method: Method, option: str) -> bool:
    return any(field.name == option for field in fields(method.options))


def _methods_with_option(option: str) -> str:
    """Names of the methods that have an option."""
    return ", ".join(name for name, method in METHODS.items() if _has_option(method, option))


def _methods_with(attribute: str) -> str:
    """Names of the methods that have an optional part."""
    return ", ".join(name for name, method in METHODS.items() if getattr(method, attribute))


def _find_method(name: str) -> Method:
    if name not in METHODS:
        # Always one, however far off.
        nearest = get_close_matches(name, METHODS, n=1, cutoff=0)[0]
        raise UsageError(
            f"unknown training method {name}; did you mean {nearest}? Known: {', '.join(METHODS)}."
        )
    return METHODS[name]


def _check_neighbors(neighbours: int, name: str, method: Method) -> None:
    if neighbours and not method.uses_neighbors:
        raise UsageError(
            f"--neighbours is not for method {name}; it is for {_methods_with('uses_neighbors')}."
        )
