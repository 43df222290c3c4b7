"""The shot model: a window network trained on frames of the shot, applied in stages and fused along the motion."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Literal

import torch
import torch.nn.functional as F

from vsr.engine.fusion import FusionOptions
from vsr.engine.multiframe import MultiframeOptions
from vsr.engine.windows import STEP_RATIO, enlarge_shot, luma_of
from vsr.errors import ModelError
from vsr.frames import Frame
from vsr.policies.protocol import Decision, Policy, PolicyContext
from vsr.resample import resize
from vsr.shot_models import ShotModel

Quality = Literal["fast", "balanced", "best"]

FUSION: dict[str, FusionOptions] = {
    "fast": FusionOptions(memory=0.8, look_ahead=1, refinements=2),
    "balanced": FusionOptions(memory=0.9, look_ahead=2),
    "best": FusionOptions(memory=0.9, look_ahead=2),
}
FRAMES_TO_CHOOSE_BY = 5
"""Of the start of a shot, where several models could be meant."""


def shot(context: PolicyContext) -> Policy:
    """The shot's own model, else the one that best restores the shot's first frames."""
    fusion = FUSION[context.options.quality]
    multiframe = MultiframeOptions() if context.options.quality == "best" else None

    def policy(frames: Iterable[Frame]) -> Iterator[Frame]:
        iterator = iter(frames)
        first_frames = list(islice(iterator, FRAMES_TO_CHOOSE_BY))
        model, reason, ranking = _choose(context, first_frames)
        agreement, noise = context.agreement(first_frames[0])
        context.decide(Decision(first_frames[0].index, (model.name,), reason, agreement, noise, ranking))
        waiting: list[Frame] = []

        def lows() -> Iterator[torch.Tensor]:
            for frame in chain(first_frames, iterator):
                waiting.append(frame)
                yield frame.pixels

        networks = (model.networks[0].to(context.device), model.networks[1].to(context.device))
        for pixels in enlarge_shot(lows(), networks, context.scale, agreement, fusion, multiframe, context.engine):
            yield replace(waiting.pop(0), pixels=pixels)

    return policy


def _choose(context: PolicyContext, frames: list[Frame]) -> tuple[ShotModel, str, tuple[tuple[str, float], ...]]:
    """The model for a shot that begins with `frames`, why, and the ranking where there was one."""
    models = context.shot_models(frames[0])
    if not models:
        raise ModelError("policy shot needs a bank with a shot model, and this one has none. Run vsr train-shot.")
    for model in models:
        card = model.card
        same_clip = card.clip_identity == context.clip_identity != ""
        if same_clip and card.shot_start_seconds <= frames[0].seconds < card.shot_end_seconds:
            return model, "trained on this shot", ()
    if len(models) == 1:
        return models[0], "the bank's only shot model", ()
    errors = {model.name: _restoration_error(model, frames) for model in models}
    ranking = tuple(sorted(errors.items(), key=lambda item: item[1]))
    best = next(model for model in models if model.name == ranking[0][0])
    return best, "it best restores this shot's first frames", ranking


def _restoration_error(model: ShotModel, frames: list[Frame]) -> float:
    """Mean absolute error of luma, in [0, 1] units, of the frames restored from half their size."""
    lumas = [luma_of(frame.pixels.cpu()) for frame in frames]
    height, width = (max(1, side // STEP_RATIO) for side in lumas[0].shape[-2:])
    halves = [resize(luma, height, width).clamp(0, 1) for luma in lumas]
    networks = (model.networks[0].cpu(), model.networks[1].cpu())
    restored = enlarge_shot(halves, networks, STEP_RATIO, 1.0, FUSION["fast"])
    size = (STEP_RATIO * height, STEP_RATIO * width)
    pairs = zip(restored, lumas, strict=True)
    return sum(float(F.l1_loss(picture, resize(luma, *size))) for picture, luma in pairs) / len(frames)
