"""SMI, single model inference, and AMI, alternating model inference: one model a step of the
enlargement (SinGANxSR)."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from vsr.errors import ModelError
from vsr.models.bank import BASELINE
from vsr.upscale.policy import Decision, PerFramePolicy, PolicyContext, PolicyStage
from vsr.video.frames import Frame


def smi(context: PolicyContext) -> PolicyStage:
    """Use the named model, else the first by name of the shot's own keyframe."""
    context.require_models(1, "smi")
    name = context.options.model
    named = [] if name is None else [context.get_model(name).name]
    decide = _decide_once(context, named, "named by the user", num_models=1)
    return PerFramePolicy(context, decide, context.alternate)


def student(context: PolicyContext) -> PolicyStage:
    """Use the named student, else that of the shot's own keyframe."""
    context = replace(context, use_students=True)
    if not context.models:
        raise ModelError(
            "policy student needs a distilled model, and the bank has none. Make one with vsr "
            "distil CLIP --models DIR."
        )
    return smi(context)


def baseline(context: PolicyContext) -> PolicyStage:
    """Use for each frame the model that was trained on that very frame, as SinGAN's own
    super-resolution does."""
    context = replace(context, system=BASELINE)
    own = {
        model.card.frame_time: model.name
        for model in context.models
        if model.card.clip_identity == context.clip_identity
    }

    def decide(frame: Frame, _: Decision | None) -> Decision:
        if frame.seconds not in own:
            raise ModelError(
                f"policy baseline needs a model of frame {frame.index}, and the bank has none. "
                "Train them with: vsr train-keyframe CLIP --models DIR --keyframe all --shots all"
            )
        return context.decide(frame, [own[frame.seconds]], "trained on this very frame")

    return PerFramePolicy(context, decide, context.alternate, every_frame=True)


def zssr(context: PolicyContext) -> PolicyStage:
    """Use a model of ZSSR, for which the clip was reduced bicubically."""
    return _one_model(context, "zssr", "--method zssr")


def kernelgan(context: PolicyContext) -> PolicyStage:
    """Use a model of ZSSR with a blur kernel: KernelGAN's, or one from a file."""
    return _one_model(context, "kernelgan", "--method zssr --kernel auto")


def zssrgan(context: PolicyContext) -> PolicyStage:
    """Use a model of ZSSR that had to please KernelGAN's discriminator as well (ZSSRGAN)."""
    return _one_model(context, "zssrgan", "--method zssrgan")


def _one_model(context: PolicyContext, system: str, training: str) -> PolicyStage:
    context = replace(context, system=system)
    if not context.models:
        raise ModelError(
            f"policy {system} needs a bank with a model of its own, and this one has none. Train "
            f"it with: vsr train-keyframe CLIP --models DIR {training}"
        )
    return smi(context)


def ami(context: PolicyContext) -> PolicyStage:
    """Alternate the named models in their order, else the first `alternating` of the shot's own
    keyframe."""
    options = context.options
    chosen = [context.get_model(name) for name in options.order]
    if not chosen:
        context.require_models(options.alternating, "ami")
    elif len(chosen) < 2:
        raise ModelError(
            f"policy ami alternates two models or more; policies.order names {len(chosen)}. Use "
            "policy smi."
        )
    # The size after each step follows from its ratio, and models take turns from step to step.
    if len({model.card.step_ratio for model in chosen}) > 1:
        raise ModelError(
            "policy ami needs models of one step ratio; those in policies.order have several. "
            "Name others."
        )
    decide = _decide_once(context, options.order, "ordered by the user", options.alternating)
    return PerFramePolicy(context, decide, context.alternate)


def _decide_once(
    context: PolicyContext, named: Sequence[str], reason: str, num_models: int
) -> Callable[[Frame, Decision | None], Decision]:
    """Decide for the `named` models; where there are none, for the first of the shot's own
    keyframe."""

    def decide(first: Frame, _: Decision | None) -> Decision:
        if named:
            return context.decide(first, named, reason)
        models, why = context.own_models(first)
        return context.decide(first, [model.name for model in models[:num_models]], why)

    return decide
