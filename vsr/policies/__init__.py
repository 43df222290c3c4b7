"""How the models of a bank are used on the frames of a shot. Adding a policy takes one file and one entry."""

from collections.abc import Callable

from vsr.policies.ami import ami
from vsr.policies.avgi import avgi
from vsr.policies.baselines import bicubic, lanczos
from vsr.policies.dsrfi import dsrfi
from vsr.policies.internal import kernelgan, zssr, zssrgan
from vsr.policies.protocol import Decision, Policy, PolicyContext, PolicyOptions
from vsr.policies.selfrec import selfrec
from vsr.policies.shot import shot
from vsr.policies.smi import smi
from vsr.policies.student import student

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
"""Policies that fuse along the motion themselves: left alone by flicker control unless a strength is asked for."""

__all__ = ["MODEL_FREE", "POLICIES", "SELF_STEADY", "Decision", "Policy", "PolicyContext", "PolicyOptions"]
