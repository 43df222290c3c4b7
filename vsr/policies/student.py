"""The student: one model that was distilled to the mean of many, so AVGI's look at SMI's price."""

from dataclasses import replace

from vsr.errors import ModelError
from vsr.policies.protocol import Policy, PolicyContext
from vsr.policies.smi import smi


def student(context: PolicyContext) -> Policy:
    """The named student, else that of the shot's own keyframe."""
    context = replace(context, use_students=True)
    if not context.models:
        raise ModelError(
            "policy student needs a distilled model, and the bank has none. Make one with vsr distil CLIP --models DIR."
        )
    return smi(context)
