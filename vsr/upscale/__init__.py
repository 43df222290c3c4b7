"""Everything that makes a frame larger. Adding a policy takes one file and one entry."""

from difflib import get_close_matches
from pathlib import Path

from vsr.errors import UsageError
from vsr.models.bank import has_shot_model
from vsr.upscale.average import avgi
from vsr.upscale.interpolation import bicubic, lanczos, unchanged
from vsr.upscale.network_policy import network_policy
from vsr.upscale.own_policy import PolicyFunction, find_own_policy, is_in_file, name_of
from vsr.upscale.policy import Decision, Policy, PolicyContext, PolicyOptions, PolicyStage
from vsr.upscale.selection import dsrfi, selfrec
from vsr.upscale.shot import ShotPolicy
from vsr.upscale.single import ami, baseline, kernelgan, smi, student, zssr, zssrgan

_ENTRIES = (
    Policy("smi", smi, "one model for every frame"),
    Policy("baseline", baseline, "the model of each frame itself"),
    Policy("dsrfi", dsrfi, "the model whose critic fits the frame best"),
    Policy("selfrec", selfrec, "the model that best restores the frame from its reduction"),
    Policy("ami", ami, "two models or more that take turns over the steps"),
    Policy("avgi", avgi, "the mean of all models of the keyframe"),
    Policy("zssr", zssr, "a model of ZSSR"),
    Policy("kernelgan", kernelgan, "a model of ZSSR with a blur kernel"),
    Policy("zssrgan", zssrgan, "a model of ZSSRGAN"),
    Policy("student", student, "one model that was distilled from many"),
    Policy(
        "shot", ShotPolicy, "the multi-frame network of the shot", "shot models", deflickers=True
    ),
    Policy("bicubic", bicubic, "bicubic interpolation", "nothing"),
    Policy("lanczos", lanczos, "Lanczos interpolation", "nothing"),
)
POLICIES = {policy.name: policy for policy in _ENTRIES}
UPSCALER = Policy("upscaler", network_policy, "the network of --upscaler FILE", "file")
"""Takes the place of a policy over a bank."""

RESTORATION = Policy(
    "restore", unchanged, "the frames themselves, for restoration alone", "nothing"
)
"""Policy of a run that does not enlarge."""


def resolve_policy(name: str | None, upscaler: str | None, models: str | Path | None) -> Policy:
    """Find the policy of a name; without one that of `upscaler`, or the one that suits the bank
    `models`. Raises `UsageError` for an unknown name."""
    if upscaler:
        return UPSCALER
    if name is None:
        name = "shot" if models is not None and has_shot_model(Path(models)) else "smi"
    own = find_own_policy(name, has_models=models is not None)
    if own is not None:
        return own
    if name not in POLICIES:
        nearest = get_close_matches(name, POLICIES, n=1, cutoff=0)[0]
        raise UsageError(
            f"unknown policy {name}; did you mean {nearest}? Known: {', '.join(POLICIES)}, and "
            "FILE.py:FUNCTION."
        )
    return POLICIES[name]


__all__ = [
    "POLICIES",
    "RESTORATION",
    "UPSCALER",
    "Decision",
    "Policy",
    "PolicyContext",
    "PolicyFunction",
    "PolicyOptions",
    "PolicyStage",
    "is_in_file",
    "name_of",
    "resolve_policy",
]
