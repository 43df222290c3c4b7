"""What a training method is, what it takes and what it hands back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch

from vsr.image.blur import KernelTaps
from vsr.models.networks.singan import Critic, Generator

IterationProgress = Callable[[int, int, float], None]
"""Called after each iteration with its number from 1, the number of all, and the reconstruction
loss."""

BatchedProgress = Callable[[int, int, int, float], None]
"""Called now and then with the place of a seed, and what `IterationProgress` is told of its
model."""


@dataclass(frozen=True, eq=False)
class TrainedNetworks:
    """A trained generator with its critic, both in eval mode; the critic is None where the method
    has none."""

    generator: Generator
    critic: Critic | None
    noise_amplitude: float
    """Standard deviation, in [-1, 1] units, of the noise that the generator was trained with."""
    loss_curve: tuple[float, ...]
    """Reconstruction loss, averaged over equal parts of the training, first to last."""
    kernel: KernelTaps | None = None
    """Blur kernel that the generator was trained with; None: bicubic."""
    remark: str = ""
    """What the user should know, such as that training was stopped early."""
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Further losses of the training, by name, averaged likewise."""


@dataclass(frozen=True)
class BatchedMethod:
    """A way to train many models of one keyframe as one job."""

    can_train: Callable[[torch.Tensor, Any], bool]
    """Keyframe and options -> whether it is one for these."""
    train: Callable[
        [torch.Tensor, Any, Sequence[int], torch.device, BatchedProgress],
        Iterator[tuple[int, TrainedNetworks]],
    ]
    """Keyframe, options, seeds, device, progress -> place of a seed and its networks on the CPU, as
    they are done."""


@dataclass(frozen=True)
class Method:
    """A training method with its default options."""

    arch: str
    options: Any
    """A frozen dataclass with at least `network` and `step_ratio`."""
    train: Callable[[torch.Tensor, Any, int, IterationProgress], TrainedNetworks]
    """Keyframe (3, H, W) in [0, 1], options, seed, progress -> the trained networks."""
    train_steady: (
        Callable[
            [torch.Tensor, Sequence[torch.Tensor], Any, int, IterationProgress], TrainedNetworks
        ]
        | None
    ) = None
    """The same, given the frames around the keyframe after it; None for a method that has no use
    for them."""
    batched: BatchedMethod | None = None
    """The same for many seeds at once, as a GPU likes it; None for a method that only trains one by
    one, on the CPU."""
    full: Any = None
    """Options of the schedule as published, where the default one is shorter."""
    count: int = 15
    """Models of a keyframe, where nobody says."""


@contextmanager
def single_thread() -> Iterator[None]:
    """Train on one thread: a model must not depend on how many cores there are, and crops are too
    small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def loss_curve_summary(losses: list[float], parts: int = 10) -> tuple[float, ...]:
    """Means over `parts` equal stretches of the curve; fewer where there are fewer iterations, none
    of an empty one."""
    if not losses:
        return ()
    parts = min(parts, len(losses))
    edges = [len(losses) * part // parts for part in range(parts + 1)]
    return tuple(sum(losses[a:b]) / (b - a) for a, b in pairwise(edges))
