"""The course of a training: one step after another, and all that must be kept to take it up again
exactly."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from vsr.train.dataset.generator import DiscriminatorTrainer, TrainableGenerator
from vsr.train.dataset.objective import (
    PIXEL_LOSSES,
    BatchOutput,
    LossTerm,
    content_terms,
    is_adversarial,
    is_late,
    needs_two_samples,
    pixel_term,
)
from vsr.train.dataset.options import TrainingOptions

WINDOW_STEPS = 50
"""Over which the distance from the truth is averaged before it is judged."""
DIVERGED_FACTOR = 10.0
"""A window this many times the best one is beyond hope."""
SEEDS_PER_STEP = 4


class Trainer:
    """A training after some steps. What happens at a step follows from the state and the step's
    number alone."""

    def __init__(
        self,
        generator: TrainableGenerator,
        options: TrainingOptions,
        crop_px: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.step = 0
        self.generator, self.options = generator, options
        self.average = copy.deepcopy(generator.network).eval().requires_grad_(False)
        self.best_window: float | None = None
        self.best_step = 0
        self.windows: list[float] = []
        """Mean distance from the truth over each window so far."""
        self._best_average: dict[str, torch.Tensor] = {}
        self._window: list[float] = []
        self._seed, self._device = seed, device
        self._terms = content_terms(options.losses, device)
        self._optimizer = torch.optim.Adam(generator.parameter_groups(options), betas=(0.9, 0.99))
        self._discriminator = (
            DiscriminatorTrainer(options, crop_px, seed, device)
            if is_adversarial(options.losses)
            else None
        )

    def advance(self, low: torch.Tensor, high: torch.Tensor) -> dict[str, float]:
        """One step on a batch of RGB crops; the value of each term, and of the discriminator's
        loss."""
        low, truth = self.generator.pair(low.to(self._device), high.to(self._device))
        self._set_learning_rates()
        late = self.step >= self.options.adversarial_start * self.options.steps
        output = self._forward(low, truth, late)
        values: dict[str, float] = {}
        loss = torch.zeros((), device=self._device)
        for name, (weight, term) in self._active_terms(late).items():
            value = term(output)
            loss = loss + weight * value
            values[name] = float(value.detach())
        if self._discriminator is not None and late:
            values["discriminator"] = self._discriminator.train_step(
                truth, output.result, self._seed_of_step(2)
            )
            value = self._discriminator.generator_loss(truth, output.result)
            loss = loss + self.options.losses.adversarial_weight * value
            values["adversarial"] = float(value.detach())
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self.step += 1
        self._update_average()
        self._track_distance(output)
        return values

    @property
    def has_diverged(self) -> bool:
        """Whether the last window is not finite, or far worse than the best one."""
        if not self.windows or self.best_window is None:
            return bool(self.windows)
        return not self.windows[-1] <= DIVERGED_FACTOR * self.best_window

    def restore_best(self) -> None:
        """Have `average` as it was after the best window."""
        assert self.best_window is not None
        self.average.load_state_dict(self._best_average)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values from which `load_state` goes on."""
        discriminator = self._discriminator
        return {
            "step": self.step,
            "network": self.generator.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self._optimizer.state_dict(),
            "discriminator": None if discriminator is None else discriminator.network.state_dict(),
            "discriminator_optimiser": None
            if discriminator is None
            else discriminator.optimizer.state_dict(),
            "windows": self.windows,
            "window": self._window,
            "best_window": self.best_window,
            "best_step": self.best_step,
            "best_average": self._best_average,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of a training with the same options."""
        self.generator.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimiser"])
        if self._discriminator is not None:
            self._discriminator.network.load_state_dict(state["discriminator"])
            self._discriminator.optimizer.load_state_dict(state["discriminator_optimiser"])
        self.step, self.windows, self._window = (
            state["step"],
            list(state["windows"]),
            list(state["window"]),
        )
        self.best_window, self.best_step = state["best_window"], state["best_step"]
        self._best_average = dict(state["best_average"])

    def _active_terms(self, late: bool) -> dict[str, tuple[float, LossTerm]]:
        """Those of this step; before the late ones set in, pixels alone where there is nothing
        else."""
        active = {name: term for name, term in self._terms.items() if late or not is_late(name)}
        return active or ({} if late else {"pixel": (1.0, pixel_term(self.options.losses))})

    def _forward(self, low: torch.Tensor, truth: torch.Tensor, late: bool) -> BatchOutput:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            result = self.generator.make(low, self._seed_of_step(0))
            both = late and needs_two_samples(self.options.losses)
            other = self.generator.make(low, self._seed_of_step(1)) if both else None
        return BatchOutput(low, truth, result.float(), None if other is None else other.float())

    def _seed_of_step(self, purpose: int) -> int:
        return 1_000_003 * self._seed + SEEDS_PER_STEP * self.step + purpose

    def _set_learning_rates(self) -> None:
        halvings = sum(self.step >= share * self.options.steps for share in self.options.halve_at)
        for group in self._optimizer.param_groups:
            group["lr"] = group["initial_lr"] * 0.5**halvings

    def _update_average(self) -> None:
        # Faster at first: the random beginning would stay in the average for long.
        decay = min(self.options.average_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            kept, fresh = self.average.state_dict(), self.generator.network.state_dict()
            for name, tensor in fresh.items():
                if tensor.is_floating_point():
                    kept[name].lerp_(tensor, 1 - decay)
                else:
                    kept[name].copy_(tensor)

    def _track_distance(self, output: BatchOutput) -> None:
        """The distance from the truth in pixels, whichever terms there are."""
        distance = PIXEL_LOSSES[self.options.losses.pixel](output.result.detach(), output.truth)
        self._window.append(float(distance))
        if (
            len(self._window) == WINDOW_STEPS
            or self.step == self.options.steps
            or not torch.isfinite(distance)
        ):
            self.windows.append(sum(self._window) / len(self._window))
            self._window = []
            if _is_finite(self.average) and (
                self.best_window is None or self.windows[-1] < self.best_window
            ):
                self.best_window, self.best_step = self.windows[-1], self.step
                self._best_average = {
                    name: each.clone() for name, each in self.average.state_dict().items()
                }


def _is_finite(network: nn.Module) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())
