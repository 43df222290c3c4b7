"""How the models of a bank are used on the frames of a shot. Adding a policy takes one file and one
entry."""

from collections.abc import Callable

from vsr.upscale.average import avgi
from vsr.upscale.interpolation import bicubic, lanczos
from vsr.upscale.policy import Decision, Policy, PolicyContext, PolicyOptions
from vsr.upscale.selection import dsrfi, selfrec
from vsr.upscale.shot import shot
from vsr.upscale.single import ami, kernelgan, smi, student, zssr, zssrgan

POLICIES: dict[str, Callable[[PolicyContext], Policy]] = {
    "smi": smi,
    "dsrfi": dsrfi,
    "selfrec": selfrec,
    "ami": ami,
    "avgi": avgi,
    "zssr": zssr,
    "kernelgan": kernelgan,
    "zssrgan": zssrgan,
    "student": student,
    "shot": shot,
    "bicubic": bicubic,
    "lanczos": lanczos,
}
MODEL_FREE = frozenset({"bicubic", "lanczos"})
"""Policies that need no bank."""
SELF_STEADY = frozenset({"shot"})
"""Policies that fuse along the motion themselves: left alone by flicker control unless a strength
is asked for."""

__all__ = [
    "MODEL_FREE",
    "POLICIES",
    "SELF_STEADY",
    "Decision",
    "Policy",
    "PolicyContext",
    "PolicyOptions",
]
