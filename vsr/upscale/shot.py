"""The shot model: a window network trained on frames of the shot, applied in stages and fused along
the motion."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Literal

import torch
import torch.nn.functional as F

from vsr.errors import ModelError
from vsr.image.resample import resize
from vsr.models.shot_model import ShotModel
from vsr.temporal.backprojection import MultiframeOptions
from vsr.temporal.fusion import FusionOptions
from vsr.upscale.policy import Decision, MiddleOfShot, Policy, PolicyContext, ShotMemory
from vsr.upscale.shot_stages import STAGE_SCALE, resume_context, to_luma, upscale_shot
from vsr.video.frames import Frame

Quality = Literal["fast", "balanced", "best"]

FUSION: dict[str, FusionOptions] = {
    "fast": FusionOptions(memory=0.8, look_ahead=1, refinements=2),
    "balanced": FusionOptions(memory=0.9, look_ahead=2),
    "best": FusionOptions(memory=0.9, look_ahead=2),
}
MODEL_CHOICE_FRAMES = 5
"""Of the start of a shot, where several models could be meant."""


def shot(context: PolicyContext) -> Policy:
    """The shot's own model, else the one that best restores the shot's first frames."""
    fusion = FUSION[context.options.quality]
    multiframe = MultiframeOptions() if context.options.quality == "best" else None

    def policy(frames: Iterable[Frame]) -> Iterator[Frame]:
        iterator = iter(frames)
        first_frames = list(islice(iterator, MODEL_CHOICE_FRAMES))
        model, reason, ranking = _select_model(context, first_frames)
        back_projection_weight, noise = context.back_projection_weight(first_frames[0])
        context.on_decision(
            Decision(
                first_frames[0].index, (model.name,), reason, back_projection_weight, noise, ranking
            )
        )
        networks = (model.networks[0].to(context.device), model.networks[1].to(context.device))
        lead, distances = resume_context(networks[0].spec.neighbours, context.scale, multiframe)
        middle = _middle_of(context, first_frames[0])
        if middle is not None:
            # Those of the beginning were only to choose by.
            yield from first_frames
            first_frames = list(islice(iterator, 1))
        start = first_frames[0].index
        done = (
            []
            if middle is None
            else [
                (middle.last - distance - start, picture.to(context.device))
                for distance, picture in zip(distances, middle.pictures, strict=True)
            ]
        )
        keep = None if context.memory is None else _Keeper(context.memory, start, lead, distances)
        waiting: list[Frame] = []

        def lows() -> Iterator[torch.Tensor]:
            for frame in chain(first_frames, iterator):
                waiting.append(frame)
                yield frame.pixels

        pictures = upscale_shot(
            lows(),
            networks,
            context.scale,
            back_projection_weight,
            fusion,
            multiframe,
            context.engine,
            keep,
            done,
        )
        for pixels in pictures:
            yield replace(waiting.pop(0), pixels=pixels)

    return policy


class _Keeper:
    """Leaves the pictures that a later run needs to go on behind a frame, once every stage has made
    its own."""

    def __init__(self, memory: ShotMemory, start: int, lead: int, distances: Sequence[int]) -> None:
        self._memory, self._start, self._lead, self._distances = memory, start, lead, distances
        self._pictures: dict[int, dict[int, torch.Tensor]] = {}

    def __call__(self, stage: int, position: int, picture: torch.Tensor) -> None:
        last = self._start + position + self._distances[stage]
        if not self._memory.is_wanted(last):
            return
        pictures = self._pictures.setdefault(last, {})
        pictures[stage] = picture.cpu()
        if stage == len(self._distances) - 1:
            whole = self._pictures.pop(last)
            # Near the start of a shot the first stages have none; such a shot is begun anew.
            if len(whole) == len(self._distances):
                self._memory.left(
                    MiddleOfShot(last, self._lead, tuple(whole[number] for number in sorted(whole)))
                )


def _middle_of(context: PolicyContext, first: Frame) -> MiddleOfShot | None:
    """What was left of the shot that begins with this frame."""
    found = None if context.memory is None else context.memory.found
    return found if found is not None and first.index <= found.last else None


def _select_model(
    context: PolicyContext, frames: list[Frame]
) -> tuple[ShotModel, str, tuple[tuple[str, float], ...]]:
    """The model for a shot that begins with `frames`, why, and the ranking where there was one."""
    models = context.shot_models(frames[0])
    if not models:
        raise ModelError(
            "policy shot needs a bank with a shot model, and this one has none. Run vsr train-shot."
        )
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
    lumas = [to_luma(frame.pixels.cpu()) for frame in frames]
    height, width = (max(1, side // STAGE_SCALE) for side in lumas[0].shape[-2:])
    halves = [resize(luma, height, width).clamp(0, 1) for luma in lumas]
    networks = (model.networks[0].cpu(), model.networks[1].cpu())
    restored = upscale_shot(halves, networks, STAGE_SCALE, 1.0, FUSION["fast"])
    size = (STAGE_SCALE * height, STAGE_SCALE * width)
    pairs = zip(restored, lumas, strict=True)
    return sum(float(F.l1_loss(picture, resize(luma, *size))) for picture, luma in pairs) / len(
        frames
    )
