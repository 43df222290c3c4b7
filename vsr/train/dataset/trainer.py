"""The course of a training: one step after another, and all that must be kept to take it up again exactly."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from vsr.train.dataset.generator import Learner, Opponent
from vsr.train.dataset.objective import (
    PIXEL_LOSSES,
    Outcome,
    Term,
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
ROOM_FOR_SEEDS = 4


class Course:
    """A training after some steps. What happens at a step follows from the state and the step's number alone."""

    def __init__(
        self, learner: Learner, options: TrainingOptions, crop_px: int, seed: int, device: torch.device
    ) -> None:
        self.step = 0
        self.learner, self.options = learner, options
        self.average = copy.deepcopy(learner.network).eval().requires_grad_(False)
        self.best_window: float | None = None
        self.best_step = 0
        self.windows: list[float] = []
        """Mean distance from the truth over each window so far."""
        self._best_average: dict[str, torch.Tensor] = {}
        self._window: list[float] = []
        self._seed, self._device = seed, device
        self._terms = content_terms(options.losses, device)
        self._optimiser = torch.optim.Adam(learner.parameter_groups(options), betas=(0.9, 0.99))
        self._opponent = Opponent(options, crop_px, seed, device) if is_adversarial(options.losses) else None

    def advance(self, low: torch.Tensor, high: torch.Tensor) -> dict[str, float]:
        """One step on a batch of RGB crops; the value of each term, and of the discriminator's loss."""
        low, truth = self.learner.pair(low.to(self._device), high.to(self._device))
        self._set_rates()
        late = self.step >= self.options.adversarial_start * self.options.steps
        outcome = self._outcome(low, truth, late)
        values: dict[str, float] = {}
        loss = torch.zeros((), device=self._device)
        for name, (weight, term) in self._active_terms(late).items():
            value = term(outcome)
            loss = loss + weight * value
            values[name] = float(value.detach())
        if self._opponent is not None and late:
            values["discriminator"] = self._opponent.learn(truth, outcome.result, self._seed_of_step(2))
            value = self._opponent.judge(truth, outcome.result)
            loss = loss + self.options.losses.adversarial_weight * value
            values["adversarial"] = float(value.detach())
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        self.step += 1
        self._update_average()
        self._note_distance(outcome)
        return values

    @property
    def has_diverged(self) -> bool:
        """Whether the last window is not finite, or far worse than the best one."""
        if not self.windows or self.best_window is None:
            return bool(self.windows)
        return not self.windows[-1] <= DIVERGED_FACTOR * self.best_window

    def go_back_to_best(self) -> None:
        """Have `average` as it was after the best window."""
        assert self.best_window is not None
        self.average.load_state_dict(self._best_average)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values from which `take_up` goes on."""
        opponent = self._opponent
        return {
            "step": self.step,
            "network": self.learner.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "discriminator": None if opponent is None else opponent.network.state_dict(),
            "discriminator_optimiser": None if opponent is None else opponent.optimiser.state_dict(),
            "windows": self.windows,
            "window": self._window,
            "best_window": self.best_window,
            "best_step": self.best_step,
            "best_average": self._best_average,
        }

    def take_up(self, state: Mapping[str, Any]) -> None:
        """Go on from the state of a training with the same options."""
        self.learner.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        if self._opponent is not None:
            self._opponent.network.load_state_dict(state["discriminator"])
            self._opponent.optimiser.load_state_dict(state["discriminator_optimiser"])
        self.step, self.windows, self._window = state["step"], list(state["windows"]), list(state["window"])
        self.best_window, self.best_step = state["best_window"], state["best_step"]
        self._best_average = dict(state["best_average"])

    def _active_terms(self, late: bool) -> dict[str, tuple[float, Term]]:
        """Those of this step; before the late ones set in, pixels alone where there is nothing else."""
        active = {name: term for name, term in self._terms.items() if late or not is_late(name)}
        return active or ({} if late else {"pixel": (1.0, pixel_term(self.options.losses))})

    def _outcome(self, low: torch.Tensor, truth: torch.Tensor, late: bool) -> Outcome:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            result = self.learner.make(low, self._seed_of_step(0))
            both = late and needs_two_samples(self.options.losses)
            other = self.learner.make(low, self._seed_of_step(1)) if both else None
        return Outcome(low, truth, result.float(), None if other is None else other.float())

    def _seed_of_step(self, purpose: int) -> int:
        return 1_000_003 * self._seed + ROOM_FOR_SEEDS * self.step + purpose

    def _set_rates(self) -> None:
        halvings = sum(self.step >= share * self.options.steps for share in self.options.halve_at)
        for group in self._optimiser.param_groups:
            group["lr"] = group["initial_lr"] * 0.5**halvings

    def _update_average(self) -> None:
        # Faster at first: the random beginning would stay in the average for long.
        decay = min(self.options.average_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            kept, fresh = self.average.state_dict(), self.learner.network.state_dict()
            for name, tensor in fresh.items():
                if tensor.is_floating_point():
                    kept[name].lerp_(tensor, 1 - decay)
                else:
                    kept[name].copy_(tensor)

    def _note_distance(self, outcome: Outcome) -> None:
        """The distance from the truth in pixels, whichever terms there are."""
        distance = PIXEL_LOSSES[self.options.losses.pixel](outcome.result.detach(), outcome.truth)
        self._window.append(float(distance))
        if len(self._window) == WINDOW_STEPS or self.step == self.options.steps or not torch.isfinite(distance):
            self.windows.append(sum(self._window) / len(self._window))
            self._window = []
            if _is_finite(self.average) and (self.best_window is None or self.windows[-1] < self.best_window):
                self.best_window, self.best_step = self.windows[-1], self.step
                self._best_average = {name: each.clone() for name, each in self.average.state_dict().items()}


def _is_finite(network: nn.Module) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())
