"""A training method: what it takes, how it is begun, and what it hands back."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from vsr.image.blur import KernelTaps
from vsr.models.networks.singan import Critic, Generator
from vsr.train.fit import IterationProgress, Training, fit

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
    """Note for the user, such as that training was stopped early."""
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Further losses of the training, by name, averaged likewise."""


class GeneratorTraining(Training):
    """A training of one model on a keyframe."""

    @abstractmethod
    def trained(self) -> TrainedNetworks:
        """Hand over the networks, once the training is over."""


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
    begin: Callable[[Sequence[torch.Tensor], Any, int], GeneratorTraining]
    """Pictures, options, seed -> a training at its first iteration. The first picture is the
    keyframe, (3, H, W) in [0, 1]; others, of its size, are frames around it."""
    uses_neighbors: bool = False
    """Whether it can make models steady on the frames around the keyframe."""
    batched: BatchedMethod | None = None
    """Trains many seeds at once, as a GPU likes it; None for a method that only trains one by one,
    on the CPU."""
    full: Any = None
    """Options of the schedule as published, where the default one is shorter."""
    count: int = 15
    """Models of a keyframe, where nobody says."""

    def train(
        self, keyframe: torch.Tensor, options: Any, seed: int, progress: IterationProgress
    ) -> TrainedNetworks:
        """Train on a keyframe alone. Deterministic for a seed and number of threads."""
        training = self.begin([keyframe], options, seed)
        fit(training, progress)
        return training.trained()
