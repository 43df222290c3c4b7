"""The shot model: a window network trained on frames of the shot, applied in stages and fused along
the motion."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, groupby, islice
from math import inf

import torch
import torch.nn.functional as F

from vsr.errors import ModelError, UsageError
from vsr.image.resample import resize
from vsr.models.bank import is_of_shot
from vsr.models.shot_model import Quality, ShotModel
from vsr.restore.data_term import CLEAN
from vsr.temporal.backprojection import MultiframeOptions
from vsr.temporal.fusion import FusionOptions
from vsr.upscale.policy import Decision, PolicyContext, PolicyStage
from vsr.upscale.shot_stages import STAGE_SCALE, ShotStages, to_luma, upscale_shot
from vsr.video.frames import Frame
from vsr.video.step import State, Step, split_done

FUSION: dict[Quality, FusionOptions] = {
    "fast": FusionOptions(memory=0.9, look_ahead=2, refinements=2),
    "balanced": FusionOptions(memory=0.95, look_ahead=2),
    "best": FusionOptions(memory=0.95, look_ahead=2),
}
"""`balanced` with a memory of 0.9 has .007 dB more on Vid4 (9 frames), and .005 more LPIPS."""
MAX_WEIGHTS: dict[Quality, float] = {"fast": 20_000, "balanced": 60_000, "best": inf}
"""Weights of a model's hidden layers, a ninth of them, that each quality has time for. The priors
have 11000, 33000 and 119000, a model without one 23000."""
MODEL_CHOICE_FRAMES = 5
"""Length of the start of a shot by which one of several models is chosen."""


class ShotPolicy(PolicyStage):
    """Use the shot's own model, else the one that best restores the shot's first frames.

    What it makes of a frame depends on all frames before: see `ShotStages` for what it needs to go
    on in the middle of a shot. Near the start of a shot it begins the shot anew.
    """

    def __init__(self, context: PolicyContext) -> None:
        super().__init__(context.notify)
        if context.options.as_published:
            raise UsageError(
                "policy shot is this project's own, and published nowhere else. Leave out "
                "--as-published, or choose smi, dsrfi, ami, avgi, zssr, kernelgan or zssrgan."
            )
        self._context = context
        self._fusion = FUSION[context.options.quality]
        self._multiframe = MultiframeOptions() if context.options.quality == "best" else None
        self._stages: ShotStages | None = None
        """At work on the shot of the last step."""
        self._shot_start = self._last = 0
        """Indices of the first frame of that shot, and of the last step."""
        self._restored: list[torch.Tensor] = []
        self.rewind = 0

    def through(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Enlarge the steps of a clip, shot by shot."""
        for _, shot in groupby(steps, key=lambda step: step.shot.index):
            done, rest = split_done(shot)
            yield from done
            first = list(islice(rest, MODEL_CHOICE_FRAMES))
            if first:
                # Stages before this one may have asked for more of them.
                yield from self._through_shot(done[-self.rewind :], first, rest)

    def state(self) -> State:
        """The decisions, and the pictures that the stages can go on from."""
        pictures = None if self._stages is None else self._stages.pictures()
        # Without pictures, or where they reach no further, the whole shot so far comes again.
        rewind = 1 + self._last - self._shot_start
        if self._stages is not None and pictures is not None:
            rewind = min(rewind, 1 + self._stages.lead)
        tensors = {f"stage{number}": picture for number, picture in enumerate(pictures or ())}
        return replace(super().state(), record={"rewind": rewind}, tensors=tensors)

    def restore(self, state: State) -> None:
        """Go on behind the frame of `state`."""
        super().restore(state)
        self.rewind = state.record["rewind"]
        self._restored = [
            state.tensors[f"stage{number}"].to(self._context.device)
            for number in range(len(state.tensors))
        ]

    def _through_shot(
        self, done: list[Step], first: list[Step], rest: Iterator[Step]
    ) -> Iterator[Step]:
        """Enlarge the steps of one shot, of which `done` come again."""
        model = self._model_of(self.decisions[-1], done[0]) if done else self._decide(first)
        kernel = model.card.blur
        data_term = self.decisions[-1].data_term
        # Neighbors are compared through bicubic reduction, which is not that of a blurred clip; and
        # their inputs are taken as they are, with the errors of a codec.
        compares_neighbors = kernel is None and data_term.trust.is_full
        self._stages = ShotStages(
            model.networks_on(self._context.device),
            self._context.scale,
            data_term,
            self._fusion,
            self._multiframe if compares_neighbors else None,
            self._context.engine,
            kernel,
        )
        self._shot_start = first[0].shot.first_frame
        lows = ((step.frame.pixels, step) for step in chain(done, first, rest))
        for one in self._stages.through(lows, self._restored if done else (), len(done)):
            # The others were only to fill the stages.
            if not one.owner.is_done:
                self._last = one.owner.frame.index
                shot = replace(one.owner.shot, kernel=kernel)
                yield replace(one.owner, picture=one.picture, shot=shot)

    def _decide(self, first: list[Step]) -> ShotModel:
        """Choose the model of a shot that begins with `first`."""
        model, reason, ranking = _select_model(self._context, first)
        decision = self._context.decide(first[0].frame, [model.name], reason, ranking)
        self.record(self._context.trusting(decision, first[0].shot))
        return model

    def _model_of(self, decision: Decision, step: Step) -> ShotModel:
        """Find the model that an earlier run decided for."""
        for model in self._context.shot_models(step):
            if model.name == decision.models[0]:
                return model
        raise ModelError(
            f"the earlier run used the shot model {decision.models[0]}, which the bank no longer "
            "has. Put it back, or start over with --restart."
        )


def _select_model(
    context: PolicyContext, steps: list[Step]
) -> tuple[ShotModel, str, tuple[tuple[str, float], ...]]:
    """The model for a shot that begins with `steps`, why, and the ranking where there was one."""
    models = context.shot_models(steps[0])
    frames = [step.frame for step in steps]
    if not models:
        raise ModelError(
            "policy shot needs a bank with a shot model, and this one has none. Run vsr train-shot."
        )
    # A model of this shot beats all others.
    for model in sorted(models, key=partial(_rank_of_own, quality=context.options.quality)):
        if is_of_shot(model.card, context.clip_identity, frames[0].seconds):
            return model, _training_of(model), ()
    if len(models) == 1 and not models[0].card.clip:
        return models[0], f"no model was trained{_made_for(models[0])}", ()
    if len(models) == 1:
        return models[0], "the bank's only shot model", ()
    errors = {model.name: _restoration_error(model, frames) for model in models}
    ranking = tuple(sorted(errors.items(), key=lambda item: item[1]))
    best = next(model for model in models if model.name == ranking[0][0])
    return best, "it best restores this shot's first frames", ranking


def _rank_of_own(model: ShotModel, quality: Quality) -> tuple[bool, bool, int]:
    """Rank a shot's own models: one that knows the blur comes first, then one with as many weights
    as the quality has time for, else with as few as there are."""
    weights = sum(network.spec.width**2 * network.spec.layers for network in model.networks)
    is_slow = weights > MAX_WEIGHTS[quality]
    return model.card.kernel is None, is_slow, weights if is_slow else -weights


def _training_of(model: ShotModel) -> str:
    """Say how the shot's own model came about."""
    card = model.card
    if not card.prior:
        return "trained on this shot"
    prior = f"prior {card.prior}{_made_for(model)}"
    # Where the training was no better, or was not needed, both networks are the prior's.
    if not any(card.iterations):
        return f"{prior} as it is"
    return f"trained on this shot from {prior}"


def _made_for(model: ShotModel) -> str:
    """Name the degradation that a model was made for, where it is one."""
    known = model.card.degradation
    return "" if known.is_clean else f" for {known.summary()}"


def _restoration_error(model: ShotModel, frames: list[Frame]) -> float:
    """Mean absolute error of luma, in [0, 1] units, of the frames restored from half their size."""
    # On the CPU, so that the choice does not depend on the device.
    lumas = [to_luma(frame.pixels.cpu()) for frame in frames]
    height, width = (max(1, side // STAGE_SCALE) for side in lumas[0].shape[-2:])
    halves = [resize(luma, height, width).clamp(0, 1) for luma in lumas]
    networks = model.networks_on(torch.device("cpu"))
    restored = upscale_shot(halves, networks, STAGE_SCALE, CLEAN, FUSION["fast"])
    size = (STAGE_SCALE * height, STAGE_SCALE * width)
    pairs = zip(restored, lumas, strict=True)
    return sum(float(F.l1_loss(picture, resize(luma, *size))) for picture, luma in pairs) / len(
        frames
    )
