"""Estimate of the time of a run that trains its models: brief trainings and a brief run, on frames
of the clip itself."""

from dataclasses import dataclass, replace

import torch

from vsr import __version__
from vsr.engine.options import choose_device
from vsr.engine.tiling import limited_threads
from vsr.models.bank import Model, ModelCard
from vsr.models.networks.shot_network import ShotNetwork
from vsr.models.networks.singan import Critic, Generator
from vsr.models.prior import load_shipped_prior, quality_of
from vsr.models.shot_model import ARCH, ShotCard, ShotModel
from vsr.pipeline.need import STUDENT, Need
from vsr.restore.data_term import known_degradation
from vsr.train.budget import (
    SETUP_SECONDS,
    seconds_per_batched_iteration,
    seconds_per_iteration,
)
from vsr.train.clip import read_frames
from vsr.train.methods import METHODS
from vsr.train.methods.method import Method
from vsr.train.methods.quick import QuickOptions
from vsr.train.methods.shot_network import ShotTrainingOptions
from vsr.train.workers import CPU, available_cores
from vsr.upscale.policy import ModelSet

PROCESS_SECONDS = 4.0
"""Until a process that trains has loaded what it needs."""
STAND_IN = "stand-in"
"""Name of an untrained model, which works as long as a trained one."""


@dataclass(frozen=True)
class TrainingCost:
    """Time of the trainings that a run lacks, in seconds."""

    setup: float
    """Until the first begins."""
    models: tuple[float, ...]
    """Seconds of each shot's model, in order; for keyframes, of all together."""
    is_beside: bool
    """Whether shots are enlarged meanwhile."""

    @property
    def total(self) -> float:
        """All trainings, without what is enlarged beside."""
        return self.setup + sum(self.models)


def training_cost(need: Need) -> TrainingCost | None:
    """Estimate the trainings of what is lacking; None where the method has no fixed length."""
    if not need.lacking:
        return TrainingCost(0.0, (), is_beside=False)
    first, budget = need.lacking[0], need.recipe.training_seconds
    if budget is not None:
        # A budget is one for all keyframes together, but one for each shot model.
        count = 1 if need.training else len(need.lacking)
        setup = PROCESS_SECONDS + need.seconds_to_find
        return TrainingCost(setup, count * (budget,), is_beside=need.training is None)
    if need.training is None:
        # Banks of keyframes need none of it.
        from vsr.train.cost import PROBE_FRAMES, shot_training_seconds
        from vsr.train.degraded import degradations_of_shots
        from vsr.train.shot import adaptation_for, needs_no_training, training_part

        wanted = list(range(first.first_frame, first.last_frame + 1))[:PROBE_FRAMES]
        frames = read_frames(need.info.path, set(wanted), need.recipe.read)
        choice = need.recipe.prior_choice
        prior = None if choice == "none" else load_shipped_prior(choice).networks
        parts = [
            training_part(shot, need.info.height, need.info.width, prior is not None)
            for shot in need.lacking
        ]
        region = parts[0][1]
        counts = [sum(map(len, runs)) for runs, _ in parts]
        trainings = [ShotTrainingOptions()] * len(counts)
        if prior is not None:
            strength = need.recipe.restore_strength
            found = degradations_of_shots(
                need.info.path, need.lacking, need.recipe.read, need.recipe.restore
            )
            counts = [
                0 if needs_no_training(shot, known_degradation(each, strength)) else count
                for shot, each, count in zip(need.lacking, found, counts, strict=True)
            ]
            quality = quality_of(choice)
            trainings = [adaptation_for(each, strength, quality) for each in found]
        pixels = [frames[index].pixels[:, *region] for index in wanted]
        device = choose_device(need.recipe.device)
        with limited_threads(need.recipe.threads):
            seconds = shot_training_seconds(pixels, counts, trainings, prior, device)
        setup = PROCESS_SECONDS + need.seconds_to_find
        return TrainingCost(setup, tuple(seconds), is_beside=True)
    method = METHODS[need.training.method]
    # Others have schedules that end by themselves; a student's teachers work before its first step.
    if not isinstance(method.options, QuickOptions) or need.policy_name == STUDENT:
        return None
    keyframe = read_frames(need.info.path, {first.keyframe}, need.recipe.read)[first.keyframe]
    setup = SETUP_SECONDS + need.seconds_to_find
    all_models = method.options.iterations * _seconds_of_all(need, method, keyframe.pixels)
    return TrainingCost(setup, (all_models,), is_beside=False)


def _seconds_of_all(need: Need, method: Method, keyframe: torch.Tensor) -> float:
    """Time one iteration of all models that keyframes lack."""
    device = choose_device(need.recipe.device)
    batched = method.batched
    if device != CPU and batched is not None and batched.can_train(keyframe, method.options):
        # On a GPU they are one job.
        models = need.models_lacking
        return seconds_per_batched_iteration(method, batched, keyframe, models, device)
    # Rounded up: a last round of few models takes as long as a full one.
    rounds = -(-need.models_lacking // (need.recipe.threads or available_cores()))
    return rounds * seconds_per_iteration(method, keyframe)


def stand_ins(need: Need) -> ModelSet:
    """Make untrained models of the kind that a run lacks, to measure it with."""
    if need.training is None:
        # Models that begin from the prior have its shape.
        choice = need.recipe.prior_choice
        known = _shot_model() if choice == "none" else load_shipped_prior(choice).as_shot_model()
        model = replace(known, name=STAND_IN)
        return ModelSet(shot_models=lambda _: [model])
    return ModelSet(bank=_keyframe_models(need))


def run_seconds(
    need: Need, cost: TrainingCost, seconds_per_frame: float, busy_cores: float, cores: int
) -> float:
    """Estimate the time of a whole run, where a frame alone takes so long on so many cores.

    Shots are enlarged in order, each as soon as its model is trained; trainings follow each other,
    beside. Where the two want more than all cores, both are slower.
    """
    lacking = {shot.index for shot in need.lacking}
    if not cost.is_beside:
        frames = sum(shot.num_frames for shot in need.shots)
        return cost.total + frames * seconds_per_frame
    # With both at work, each has this share of its own speed.
    pace = min(1.0, cores / (busy_cores + 1))
    left = [shot.num_frames * seconds_per_frame for shot in need.shots]
    untrained = list(cost.models)
    now, current = cost.setup, 0
    ready = 0
    """Shots at the start of the clip whose models are there."""
    # From event to event: a shot is enlarged, or a model trained.
    while current < len(left):
        while ready < len(left) and need.shots[ready].index not in lacking:
            ready += 1
        works, trains = current < ready, bool(untrained)
        speed = pace if works and trains else 1.0
        step = min(
            *([left[current] / speed] if works else []),
            *([untrained[0] / speed] if trains else []),
            float("inf"),
        )
        now += step
        if works:
            left[current] -= step * speed
            # Rounding may leave a trace of work where there is none.
            current += left[current] <= 1e-9
        if trains:
            untrained[0] -= step * speed
            if untrained[0] <= 1e-9:
                untrained.pop(0)
                lacking.discard(min(lacking))
    return now


def _shot_model() -> ShotModel:
    spec = ShotTrainingOptions().network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, second = (ShotNetwork(spec).eval().requires_grad_(False) for _ in range(2))
    card = ShotCard(ARCH, spec, (0, 0), 0, "", "", 0, 0, 0.0, 0.0, 0, (), __version__)
    return ShotModel(STAND_IN, card, (first, second))


def _keyframe_models(need: Need) -> list[Model]:
    """Make as many models of method `quick` as the policy uses, as if of every shot's keyframe."""
    assert need.training is not None, "shot models have no keyframe"
    method = METHODS[need.training.method]
    spec, ratio = method.options.network, method.options.step_ratio
    card = ModelCard(
        arch=method.arch,
        network=spec,
        scale_factors=(ratio, ratio),
        noise_amplitude=0.0,
        recipe=STAND_IN,
        seed=0,
        clip="",
        clip_identity=need.info.identity,
        keyframe=0,
        keyframe_hash=STAND_IN,
        frame_time=0.0,
        # Endless: every shot takes these models for its own.
        shot_start_seconds=float("-inf"),
        shot_end_seconds=float("inf"),
        critic_mean=0.0,
        critic_std=1.0,
        loss_curve=(),
        version=__version__,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [
            Model(
                f"{STAND_IN}-{number}",
                card,
                Generator(spec).eval().requires_grad_(False),
                Critic(spec).eval().requires_grad_(False),
            )
            for number in range(need.training.count or method.count)
        ]
