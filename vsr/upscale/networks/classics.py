"""FSRCNN, ESPCN and SRCNN as others have published them; spandrel does not know these."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vsr.errors import ModelError
from vsr.models.networks.classic import Espcn, EspcnSpec, Fsrcnn, FsrcnnSpec, Srcnn, SrcnnSpec
from vsr.upscale.networks.network import FULL_RANGE, STUDIO_RANGE, LumaRange

StateDict = dict[str, torch.Tensor]
"""Tensors by name."""
FSRCNN_NAMES = {"first_part": "extract", "mid_part": "map", "last_part": "enlarge"}
ALIASED_INPUTS_NOTE = (
    "the published files of this network expect inputs that were reduced without antialiasing"
)
SRCNN_NAMES = {"conv1": "extract", "conv2": "map", "conv3": "reconstruct"}
"""Beginnings of names in published files -> in our networks."""
SCALES = (2, 3, 4, 8)
GRAY, MAX_GRAY_CHANGE = 0.5, 0.1
"""A gray, and by how much a trained network may change it."""


@dataclass(frozen=True)
class ClassicNetwork:
    """Recognition and construction of one of them."""

    arch: str
    fits: Callable[[StateDict], bool]
    build: Callable[[Path, StateDict], tuple[Any, nn.Module]]
    """Path and tensors -> the shape, and the network with its tensors."""
    luma: LumaRange
    enlarged_first: bool = False
    remark: str | None = None


def _is_fsrcnn(state: StateDict) -> bool:
    return {name.partition(".")[0] for name in state} == FSRCNN_NAMES.keys()


def _fsrcnn(path: Path, state: StateDict) -> tuple[Any, nn.Module]:
    last = max(int(name.split(".")[1]) for name in state if name.startswith("mid_part."))
    d, s = state["first_part.0.weight"].shape[0], state["mid_part.0.weight"].shape[0]
    specs = [FsrcnnSpec(d, s, (last - 3) // 2, scale) for scale in SCALES]
    networks = [_load_renamed(Fsrcnn(spec), state, FSRCNN_NAMES) for spec in specs]
    # The tensors are the same for every scale, but at a wrong one the parts of the kernel that make
    # one output pixel no longer add up to 1, and a gray picture changes its gray.
    changes = [_gray_error(network) for network in networks]
    least = min(changes)
    if not least < MAX_GRAY_CHANGE:
        raise ModelError(
            f"{path} looks like fsrcnn, but changes a gray picture at each of the scales "
            f"{', '.join(map(str, SCALES))}; expected a trained network for luma from 0 to 1."
        )
    return specs[changes.index(least)], networks[changes.index(least)]


@torch.inference_mode()
def _gray_error(network: nn.Module) -> float:
    """Measure the largest change of a gray picture, away from its borders."""
    enlarged: torch.Tensor = network(torch.full((1, 1, 32, 32), GRAY))
    height, width = enlarged.shape[-2:]
    return float(
        (enlarged[..., height // 3 : -height // 3, width // 3 : -width // 3] - GRAY).abs().max()
    )


def _is_espcn(state: StateDict) -> bool:
    return _has_three_convolutions(state) and state["conv3.weight"].shape[0] > 1


def _espcn(_: Path, state: StateDict) -> tuple[Any, nn.Module]:
    scale = round(state["conv3.weight"].shape[0] ** 0.5)
    width, inner_width = state["conv1.weight"].shape[0], state["conv2.weight"].shape[0]
    spec = EspcnSpec(scale, width, inner_width, activation="relu", bounded=True)
    return spec, _load_renamed(Espcn(spec), state, {})


def _is_srcnn(state: StateDict) -> bool:
    return _has_three_convolutions(state) and state["conv3.weight"].shape[0] == 1


def _srcnn(path: Path, state: StateDict) -> tuple[Any, nn.Module]:
    first, second, third = (int(state[f"conv{number}.weight"].shape[-1]) for number in (1, 2, 3))
    width, inner_width = state["conv1.weight"].shape[0], state["conv2.weight"].shape[0]
    spec = SrcnnSpec((first, second, third), width, inner_width, _scale_in_name(path))
    return spec, _load_renamed(Srcnn(spec), state, SRCNN_NAMES)


CLASSICS = (
    ClassicNetwork("fsrcnn", _is_fsrcnn, _fsrcnn, STUDIO_RANGE),
    ClassicNetwork("espcn", _is_espcn, _espcn, FULL_RANGE, remark=ALIASED_INPUTS_NOTE),
    ClassicNetwork("srcnn", _is_srcnn, _srcnn, STUDIO_RANGE, enlarged_first=True),
)


def _has_three_convolutions(state: StateDict) -> bool:
    names = {f"conv{number}.{kind}" for number in (1, 2, 3) for kind in ("weight", "bias")}
    return (
        state.keys() == names
        and state["conv1.weight"].ndim == 4
        and state["conv1.weight"].shape[1] == 1
    )


def _scale_in_name(path: Path) -> int:
    """Find the scale of a network that keeps its input's size: its tensors are the same for every
    scale, so only the file's name can tell. Raises `ModelError` where it does not."""
    found = re.search(r"x([2348])(?!\d)", path.stem.lower())
    if found is None:
        raise ModelError(
            f"{path}: the scale cannot be read from the tensors; put it into the file's name, such "
            "as net_x4.pth."
        )
    return int(found.group(1))


def _load_renamed(network: nn.Module, state: StateDict, our_names: dict[str, str]) -> nn.Module:
    """Fill a network with tensors that are stored under names which begin otherwise."""
    parts = {name: name.partition(".") for name in state}
    network.load_state_dict(
        {
            f"{our_names.get(theirs, theirs)}.{rest}": state[name].float()
            for name, (theirs, _, rest) in parts.items()
        }
    )
    return network
