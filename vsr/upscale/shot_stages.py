"""Runs the networks of a shot model over a shot: twice the size at a stage, each stage fused along
the motion."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from math import ceil, log2
from typing import TypeVar

import torch
import torch.nn.functional as F

from vsr.engine.options import EngineOptions
from vsr.engine.resampling import back_project_in_place, resize_on_cores
from vsr.engine.shot_network import FastShotNetwork
from vsr.image.resample import scaled_size
from vsr.models.networks.shot_network import ShotNetwork
from vsr.temporal.backprojection import MultiframeOptions, back_project_multiframe
from vsr.temporal.fusion import FusionOptions, fuse_shot
from vsr.temporal.registration import ShotRegistrar

STAGE_SCALE = 2
"""What a stage enlarges by."""

T = TypeVar("T")
Pair = tuple[torch.Tensor, torch.Tensor]
"""A low-resolution frame (C, h, w) and what has been made of it, (C, H, W)."""
StageCallback = Callable[[int, int, torch.Tensor], None]
"""Told of a stage, a frame's place in the stream, and its fused picture."""


def upscale_shot(
    lows: Iterable[torch.Tensor],
    networks: tuple[ShotNetwork, ShotNetwork],
    scale: float,
    back_projection_weight: float,
    fusion: FusionOptions,
    multiframe: MultiframeOptions | None = None,
    options: EngineOptions = EngineOptions(),
    keep: StageCallback | None = None,
    done: Sequence[tuple[int, torch.Tensor]] = (),
) -> Iterator[torch.Tensor]:
    """The frames of one shot, (C, h, w) in [0, 1] with C of 1 (luma) or 3 (RGB), enlarged `scale`
    times and fused.

    The first stage uses the first network, all others the second. As many pictures come out as go
    in, `look_ahead` frames late; memory does not grow with the shot. `multiframe` asks for
    back-projection onto the neighbours of each frame at the end. Raises `ModelError` for values
    that are not finite.

    `keep` is shown every stage's pictures. With one of each, of the frames that `resume_context`
    names, as `done`, a stream that begins in the middle of the shot goes on as if it had begun at
    its start; what comes out for the frames before the first that is wanted is of no use.
    """
    registrar = ShotRegistrar(fusion.refinements)
    stream: Iterator[Pair] = _registered(lows, registrar)
    fast = [FastShotNetwork(network, options) for network in networks]
    for stage in range(num_stages(scale)):
        network = fast[min(stage, 1)]
        stage_scale = min(scale, STAGE_SCALE ** (stage + 1))
        known = done[stage] if done else None
        stream = _stage(
            stream, network, registrar, stage_scale, back_projection_weight, fusion, known
        )
        if keep is not None:
            stream = _with_callback(stream, partial(keep, stage))
    if multiframe is not None:
        stream = _back_projected(stream, registrar, multiframe)
    # What comes last has the shortest memory, so no stage before it looks further back.
    reach = max(networks[0].spec.neighbours, multiframe.reach if multiframe else 1)
    for index, (_, picture) in enumerate(stream):
        registrar.discard_before(index + 1 - reach)
        yield picture


def look_ahead(
    neighbours: int,
    scale: float,
    fusion: FusionOptions,
    multiframe: MultiframeOptions | None = None,
) -> int:
    """Low-resolution frames to come that must be read before a frame is done."""
    at_the_end = 0 if multiframe is None else multiframe.reach
    return num_stages(scale) * (neighbours + fusion.look_ahead) + at_the_end


def resume_context(
    neighbours: int, scale: float, multiframe: MultiframeOptions | None = None
) -> tuple[int, list[int]]:
    """How many frames before the first that is wanted a stream must begin, and before it lies the
    known one, by stage.

    A stage is right behind its known picture, and so is the next where all neighbours that it looks
    at are right.
    """
    behind = 1 if multiframe is None else multiframe.reach
    distances = [behind + number * (neighbours - 1) for number in range(num_stages(scale))]
    return max([behind, *(distance + neighbours - 1 for distance in distances)]), distances[::-1]


def num_stages(scale: float) -> int:
    """How many doublings reach a scale of 1 or more."""
    return max(0, ceil(log2(scale) - 1e-9))


def input_planes(
    own: torch.Tensor,
    index: int,
    others: Iterable[tuple[int, torch.Tensor]],
    reach: int,
    registrar: ShotRegistrar,
) -> torch.Tensor:
    """What a window network looks at, (1 + 2 reach, H, W): the enlarged luma `own` (1, H, W) of
    frame `index`, then its neighbours' differences from it along the motion, nearest first, past
    before future; zeros where there is none.
    """
    known = dict(others)
    planes = [own[0]]
    for distance in range(1, reach + 1):
        for neighbor in (index - distance, index + distance):
            if neighbor in known:
                registration = registrar.onto(index, neighbor)
                difference = registration.warp(known[neighbor]) - own
                planes.append(registration.weight(own) * difference[0])
            else:
                planes.append(torch.zeros_like(own[0]))
    return torch.stack(planes)


def to_luma(picture: torch.Tensor) -> torch.Tensor:
    """Full-range BT.601 luma (1, H, W) of RGB (3, H, W); a picture of one plane is its own."""
    if picture.shape[0] == 1:
        return picture
    weights = torch.tensor([0.299, 0.587, 0.114], device=picture.device)
    return torch.einsum("c,chw->hw", weights, picture)[None]


def pad_planes(planes: torch.Tensor, halo: int) -> torch.Tensor:
    """(planes, H, W) with its edge repeated `halo` pixels outwards."""
    return F.pad(planes[None], (halo, halo, halo, halo), mode="replicate")[0]


def _back_projected(
    pairs: Iterator[Pair], registrar: ShotRegistrar, options: MultiframeOptions
) -> Iterator[Pair]:
    for index, (low, picture), near in with_neighbors(pairs, options.reach):
        low_lumas = {number: to_luma(other) for number, (other, _) in near}
        luma = to_luma(picture)
        change = back_project_multiframe(luma, index, low_lumas, registrar, options) - luma
        yield low, (picture + change).clamp(0, 1)


def with_neighbors(items: Iterable[T], reach: int) -> Iterator[tuple[int, T, list[tuple[int, T]]]]:
    """(number, item, [(number, item) of it and all within `reach`]) for each item, `reach` items
    late."""
    numbered = enumerate(items)
    held = deque(islice(numbered, reach + 1))
    current = 0
    while held and current <= held[-1][0]:
        yield current, held[current - held[0][0]][1], list(held)
        current += 1
        if held[0][0] < current - reach:
            held.popleft()
        held.extend(islice(numbered, 1))


def _registered(lows: Iterable[torch.Tensor], registrar: ShotRegistrar) -> Iterator[Pair]:
    for index, low in enumerate(lows):
        registrar.add(index, low.expand(3, -1, -1))
        yield low, low


def _stage(
    pairs: Iterator[Pair],
    network: FastShotNetwork,
    registrar: ShotRegistrar,
    scale: float,
    back_projection_weight: float,
    fusion: FusionOptions,
    done: tuple[int, torch.Tensor] | None,
) -> Iterator[Pair]:
    waiting: deque[torch.Tensor] = deque()

    def sharpened() -> Iterator[Pair]:
        for low, picture in _upscaled(pairs, network, registrar, scale, back_projection_weight):
            waiting.append(low)
            yield low, picture

    for fused in fuse_shot(sharpened(), fusion, back_projection_weight, registrar, done):
        yield waiting.popleft(), fused


def _with_callback(
    pairs: Iterator[Pair], show: Callable[[int, torch.Tensor], None]
) -> Iterator[Pair]:
    for index, (low, picture) in enumerate(pairs):
        show(index, picture)
        yield low, picture


def _upscaled(
    pairs: Iterator[Pair],
    network: FastShotNetwork,
    registrar: ShotRegistrar,
    scale: float,
    back_projection_weight: float,
) -> Iterator[Pair]:
    """Each picture at twice its size with the detail that the network finds, then at `scale` times
    its low one."""
    reach = network.spec.neighbours
    for index, (low, base, own), near in with_neighbors(_doubled(pairs), reach):
        planes = input_planes(
            own, index, [(number, luma) for number, (_, _, luma) in near], reach, registrar
        )
        size = scaled_size(low.shape[-2], low.shape[-1], scale)
        picture = resize_on_cores(base + network.missing_detail(planes), *size).clamp_(0, 1)
        yield low, back_project_in_place(picture, low, back_projection_weight)


def _doubled(pairs: Iterator[Pair]) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(low, picture at twice its size, the luma of that)."""
    for low, picture in pairs:
        height, width = picture.shape[-2:]
        base = resize_on_cores(picture, STAGE_SCALE * height, STAGE_SCALE * width)
        yield low, base, to_luma(base)
