"""The systems beside SinGAN that learn on the keyframe, by name: one model for every frame, as `smi` uses one."""

from dataclasses import replace

from vsr.errors import ModelError
from vsr.policies.protocol import Policy, PolicyContext
from vsr.policies.smi import smi


def zssr(context: PolicyContext) -> Policy:
    """ZSSR, for which the clip was reduced bicubically."""
    return _one_model(context, "zssr", "--method zssr")


def kernelgan(context: PolicyContext) -> Policy:
    """ZSSR with a blur kernel: KernelGAN's, or one from a file."""
    return _one_model(context, "kernelgan", "--method zssr --kernel auto")


def zssrgan(context: PolicyContext) -> Policy:
    """ZSSR that must please KernelGAN's discriminator as well (seed 001)."""
    return _one_model(context, "zssrgan", "--method zssrgan")


def _one_model(context: PolicyContext, system: str, training: str) -> Policy:
    context = replace(context, system=system)
    if not context.models:
        raise ModelError(
            f"policy {system} needs a bank with a model of its own, and this one has none. Train it with: "
            f"vsr train-keyframe CLIP --models DIR {training}"
        )
    return smi(context)
