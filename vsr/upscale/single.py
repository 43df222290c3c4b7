"""SMI, single model inference: one model for every frame (SinGANxSR)."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from vsr.errors import ModelError
from vsr.upscale.policy import Policy, PolicyContext, peek
from vsr.video.frames import Frame


def smi(context: PolicyContext) -> Policy:
    """The named model, else the first by name of the shot's own keyframe."""
    context.require_models(1, "smi")
    chosen = None if context.options.model is None else context.get_model(context.options.model)

    def policy(frames: Iterable[Frame]) -> Iterator[Frame]:
        if chosen is not None:
            return context.alternate(frames, [chosen], "named by the user")
        first, frames = peek(frames)
        models, reason = context.own_models(first)
        return context.alternate(frames, models[:1], reason)

    return policy


def student(context: PolicyContext) -> Policy:
    """The named student, else that of the shot's own keyframe."""
    context = replace(context, use_students=True)
    if not context.models:
        raise ModelError(
            "policy student needs a distilled model, and the bank has none. Make one with vsr "
            "distil CLIP --models DIR."
        )
    return smi(context)


def zssr(context: PolicyContext) -> Policy:
    """ZSSR, for which the clip was reduced bicubically."""
    return _one_model(context, "zssr", "--method zssr")


def kernelgan(context: PolicyContext) -> Policy:
    """ZSSR with a blur kernel: KernelGAN's, or one from a file."""
    return _one_model(context, "kernelgan", "--method zssr --kernel auto")


def zssrgan(context: PolicyContext) -> Policy:
    """ZSSR that must please KernelGAN's discriminator as well (ZSSRGAN)."""
    return _one_model(context, "zssrgan", "--method zssrgan")


def _one_model(context: PolicyContext, system: str, training: str) -> Policy:
    context = replace(context, system=system)
    if not context.models:
        raise ModelError(
            f"policy {system} needs a bank with a model of its own, and this one has none. Train "
            f"it with: vsr train-keyframe CLIP --models DIR {training}"
        )
    return smi(context)


def ami(context: PolicyContext) -> Policy:
    """The named models in their order, else the first `alternating` of the shot's own keyframe."""
    options = context.options
    chosen = [context.get_model(name) for name in options.order]
    if not chosen:
        context.require_models(options.alternating, "ami")
    elif len(chosen) < 2:
        raise ModelError(
            f"policy ami alternates two models or more; the order names {len(chosen)}. Use policy "
            "smi."
        )
    if len({model.card.step_ratio for model in chosen}) > 1:
        raise ModelError(
            "policy ami needs models of one step ratio; those of the order were trained for "
            "several."
        )

    def policy(frames: Iterable[Frame]) -> Iterator[Frame]:
        if chosen:
            return context.alternate(frames, chosen, "ordered by the user")
        first, frames = peek(frames)
        models, reason = context.own_models(first)
        return context.alternate(frames, models[: options.alternating], reason)

    return policy
