"""Training many models of one keyframe as one job: one small model alone leaves a GPU idle."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import torch

from vsr.errors import ModelError
from vsr.train.fit import Training, iterate
from vsr.train.methods.method import TrainedNetworks

REPORT_EVERY = 10
"""Iterations between two reports, for each of which the GPU is waited for."""
MAX_BATCH = 64
"""Models at once."""

# cuDNN would else add in an order that changes from run to run, and round what it multiplies.
DETERMINISTIC = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)

Common = TypeVar("Common", bound=Training)


def train_in_batches(
    seeds: Sequence[int],
    at_once: int,
    begin: Callable[[Mapping[int, int]], Common],
    pop_finished: Callable[[Common, Mapping[int, int]], Iterator[tuple[int, TrainedNetworks]]],
) -> Iterator[tuple[int, TrainedNetworks]]:
    """Yield place in `seeds` and model, each as soon as it is done.

    `begin` starts a training of seeds, by their places; `pop_finished` is asked after each of its
    iterations. As many as `at_once` are trained; where memory does not hold them, half as many
    begin again. Raises `ModelError` where it does not hold a single one.
    """
    waiting = list(range(len(seeds)))
    while waiting:
        batch = {place: seeds[place] for place in waiting[:at_once]}
        try:
            training = begin(batch)
            for _ in iterate(training):
                for place, trained in pop_finished(training, batch):
                    # Handed over at once: what is done before memory runs out is not lost.
                    waiting.remove(place)
                    yield place, trained
        except torch.OutOfMemoryError:
            # Begun again rather than gone on with: models follow from their seeds, so nothing is
            # lost but time.
            at_once = len(batch) // 2
            if not at_once:
                raise ModelError(
                    "the GPU's memory does not hold one model's training. Use --device cpu."
                ) from None
            torch.cuda.empty_cache()
