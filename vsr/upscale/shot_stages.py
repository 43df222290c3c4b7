"""Runs the networks of a shot model over a shot: twice the size at a stage, each stage fused along
the motion."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import ceil, log2
from typing import TypeVar

import torch
import torch.nn.functional as F

from vsr.engine.options import EngineOptions
from vsr.engine.prefetch import prefetch
from vsr.engine.resampling import resize_on_cores
from vsr.engine.shot_network import FastShotNetwork
from vsr.engine.tiling import made_on_single_thread, num_threads
from vsr.image.blur import Blur
from vsr.image.degradation import GaussianBlur
from vsr.image.luma import luma
from vsr.image.resample import scaled_size
from vsr.models.networks.shot_network import ShotNetwork
from vsr.restore.data_term import DataTerm
from vsr.temporal.backprojection import MultiframeOptions, back_project_multiframe
from vsr.temporal.boxes import Box
from vsr.temporal.fusion import Enlarged, FusionOptions, fuse_shot
from vsr.temporal.registration import ShotRegistrar

STAGE_SCALE = 2
"""Enlargement by one stage."""
FRAMES_BETWEEN_STAGES = 1
"""Frames that wait for the next stage where several cores are at work on different stages."""

T = TypeVar("T")


def upscale_shot(
    lows: Iterable[torch.Tensor],
    networks: tuple[ShotNetwork, ShotNetwork],
    scale: float,
    data_term: DataTerm,
    fusion: FusionOptions,
    multiframe: MultiframeOptions | None = None,
    options: EngineOptions = EngineOptions(),
    kernel: Blur | None = None,
) -> Iterator[torch.Tensor]:
    """Enlarge the frames of one shot, (C, h, w) in [0, 1] with C of 1 (luma) or 3 (RGB), `scale`
    times; see `ShotStages`."""
    stages = ShotStages(networks, scale, data_term, fusion, multiframe, options, kernel)
    return (one.picture for one in stages.through((low, None) for low in lows))


class ShotStages:
    """The doublings of one shot, each fused along the motion, for as many frames as it has.

    The first stage uses the first network, all others the second. As many pictures come out as go
    in, `look_ahead` frames late; memory does not grow with the shot. `multiframe` asks for
    back-projection onto the neighbors of each frame at the end.

    What comes out depends on all frames before, through the fused pictures that each stage goes on
    from. A stage is right behind a known fused picture, and so is the next stage where all
    neighbors that it looks at are right. So another process can go on with one picture a stage:
    those at `distances` before the frame that came out last.
    """

    def __init__(
        self,
        networks: tuple[ShotNetwork, ShotNetwork],
        scale: float,
        data_term: DataTerm,
        fusion: FusionOptions,
        multiframe: MultiframeOptions | None = None,
        options: EngineOptions = EngineOptions(),
        kernel: Blur | None = None,
    ) -> None:
        """`kernel` is the blur that the networks were made for; None: bicubic."""
        fast = [FastShotNetwork(network, options) for network in networks]
        self._networks = [fast[min(stage, 1)] for stage in range(num_stages(scale))]
        self._scale = scale
        self._data_term = data_term
        self._fusion, self._multiframe, self._kernel = fusion, multiframe, kernel
        self._neighbors = networks[0].spec.neighbours
        self._distances, self.lead = resume_context(self._neighbors, scale, multiframe)
        self._position = -1
        # Work on one frame keeps several cores busy for a part of its time only.
        is_cpu = next(networks[0].parameters()).device.type == "cpu"
        self._works_beside = is_cpu and num_threads() > 1
        # A stage that works beside the next is further ahead by those that wait, the one that waits
        # for a place among them, and the one that was taken.
        beside = FRAMES_BETWEEN_STAGES + 2 if self._works_beside else 0
        # A stage is ahead of what comes out by all that the stages behind it look ahead.
        # What it has made since the wanted picture must still be there.
        at_the_end = 0 if multiframe is None else multiframe.reach
        self._recent: list[deque[tuple[int, torch.Tensor]]] = [
            deque(
                maxlen=1
                + distance
                + at_the_end
                + (len(self._distances) - 1 - stage)
                * (self._neighbors + fusion.look_ahead + beside)
            )
            for stage, distance in enumerate(self._distances)
        ]

    def through(
        self,
        lows: Iterable[tuple[torch.Tensor, T]],
        known: Sequence[torch.Tensor] = (),
        num_done: int = 0,
    ) -> Iterator[Enlarged[T]]:
        """Enlarge the frames (C, h, w) of a shot, each with its owner.

        With `known`, the `pictures` of an earlier process, the first `num_done` frames are those
        from `lead` before the last that came out there up to that one; what comes out for them is
        of no use. Raises `ModelError` for values that are not finite.
        """
        registrar = ShotRegistrar(self._fusion.refinements, self._data_term.trust.noise)
        stream = _registered(lows, registrar)
        # Generators in a chain: each stage pulls as many frames as it looks ahead.
        for stage, network in enumerate(self._networks):
            done = None
            if known:
                done = (num_done - 1 - self._distances[stage], known[stage])
            scale = min(self._scale, STAGE_SCALE ** (stage + 1))
            if self._works_beside:
                stream = made_on_single_thread(stream)
                stream = prefetch(stream, FRAMES_BETWEEN_STAGES, f"shot stage {stage}")
            sharpened = _upscaled(stream, network, registrar, scale, self._data_term, self._kernel)
            fused = fuse_shot(
                sharpened, self._fusion, self._data_term, registrar, done, self._kernel
            )
            stream = _remembered(fused, self._recent[stage])
        if self._multiframe is not None:
            stream = _back_projected(stream, registrar, self._multiframe)
        if self._works_beside:
            stream = made_on_single_thread(stream)
        # What comes last has the shortest memory, so no stage before it looks further back.
        reach = max(self._neighbors, self._multiframe.reach if self._multiframe else 1)
        for index, one in enumerate(stream):
            # Before it is handed out: `pictures` speaks of this frame from then on.
            self._position = index
            registrar.discard_before(index + 1 - reach)
            yield one

    def pictures(self) -> list[torch.Tensor] | None:
        """The fused pictures, one a stage, that another process can go on from behind the frame
        that came out last; None where that lies too near the start of the shot."""
        found = []
        for recent, distance in zip(self._recent, self._distances, strict=True):
            # A copy: the stage may go on meanwhile.
            picture = dict(recent.copy()).get(self._position - distance)
            if picture is None:
                return None
            found.append(picture)
        return found


def look_ahead(
    neighbours: int,
    scale: float,
    fusion: FusionOptions,
    multiframe: MultiframeOptions | None = None,
) -> int:
    """Count the low-resolution frames to come that must be read before a frame is done."""
    at_the_end = 0 if multiframe is None else multiframe.reach
    return num_stages(scale) * (neighbours + fusion.look_ahead) + at_the_end


def resume_context(
    neighbours: int, scale: float, multiframe: MultiframeOptions | None = None
) -> tuple[list[int], int]:
    """Tell what a process needs to go on behind a frame: how far before that frame the known fused
    picture of each stage lies, and how far before it the frames must begin again."""
    behind = 1 if multiframe is None else multiframe.reach
    distances = [behind + number * (neighbours - 1) for number in range(num_stages(scale))]
    lead = max([behind, *(distance + neighbours for distance in distances)])
    return distances[::-1], lead


def num_stages(scale: float) -> int:
    """Count the doublings that reach a scale of 1 or more."""
    # The logarithm of a power of two may be rounded up.
    return max(0, ceil(log2(scale) - 1e-9))


def input_planes(
    own: torch.Tensor,
    index: int,
    others: Iterable[tuple[int, torch.Tensor]],
    reach: int,
    registrar: ShotRegistrar,
    box: Box | None = None,
) -> torch.Tensor:
    """Lay out the input of a shot network, (1 + 2 reach, H, W): the enlarged luma `own` (1, H, W)
    of frame `index`, then its neighbors' differences from it along the motion, nearest first, past
    before future; zeros where there is none. With a `box` of the frame, that part of all.
    """
    known = dict(others)
    shown = own
    if box is not None:
        shown = box.cut(own, own.shape[-2] // registrar.frame_box(index).height)
    planes = shown.new_empty(1 + 2 * reach, *shown.shape[1:])
    planes[0] = shown[0]
    for distance in range(1, reach + 1):
        for plane, neighbor in enumerate((index - distance, index + distance), 2 * distance - 1):
            if neighbor in known:
                registration = registrar.onto(index, neighbor)
                # Differences, not pictures: where a neighbor cannot be trusted, nothing remains.
                difference = registration.warp(known[neighbor], box).sub_(shown)
                torch.mul(registration.weight(shown, box), difference[0], out=planes[plane])
            else:
                planes[plane] = 0
    return planes


def to_luma(picture: torch.Tensor) -> torch.Tensor:
    """Compute full-range BT.601 luma (1, H, W) of RGB (3, H, W); a picture of one plane is its
    own."""
    if picture.shape[0] == 1:
        return picture
    return luma(picture)[None]


def pad_planes(planes: torch.Tensor, halo: int) -> torch.Tensor:
    """Repeat the edge of (planes, H, W) `halo` pixels outwards."""
    return F.pad(planes[None], (halo, halo, halo, halo), mode="replicate")[0]


def _back_projected(
    shot: Iterator[Enlarged[T]], registrar: ShotRegistrar, options: MultiframeOptions
) -> Iterator[Enlarged[T]]:
    for index, one, near in with_neighbors(shot, options.reach):
        low_lumas = {number: to_luma(other.low) for number, other in near}
        luma = to_luma(one.picture)
        # Neighbors correct luma alone; color keeps its differences to it.
        change = back_project_multiframe(luma, index, low_lumas, registrar, options) - luma
        yield one._replace(picture=(one.picture + change).clamp(0, 1))


def with_neighbors(items: Iterable[T], reach: int) -> Iterator[tuple[int, T, list[tuple[int, T]]]]:
    """Yield (number, item, [(number, item) of it and all within `reach`]) for each item, `reach`
    items late."""
    numbered = enumerate(items)
    held = deque(islice(numbered, reach + 1))
    current = 0
    while held and current <= held[-1][0]:
        yield current, held[current - held[0][0]][1], list(held)
        current += 1
        # What no item to come looks at is let go before the next is made: pictures are large.
        if held[0][0] < current - reach:
            held.popleft()
        held.extend(islice(numbered, 1))


def _registered(
    lows: Iterable[tuple[torch.Tensor, T]], registrar: ShotRegistrar
) -> Iterator[Enlarged[T]]:
    # Motion is estimated from RGB; a clip of luma alone stands for itself three times.
    for index, (low, owner) in enumerate(lows):
        registrar.add(index, low.expand(3, -1, -1))
        yield Enlarged(low, low, owner)


def _remembered(
    shot: Iterator[Enlarged[T]], recent: deque[tuple[int, torch.Tensor]]
) -> Iterator[Enlarged[T]]:
    for index, one in enumerate(shot):
        recent.append((index, one.picture))
        yield one


def _upscaled(
    shot: Iterator[Enlarged[T]],
    network: FastShotNetwork,
    registrar: ShotRegistrar,
    scale: float,
    data_term: DataTerm,
    kernel: Blur | None,
) -> Iterator[Enlarged[T]]:
    """Enlarge each picture to twice its size with the detail that the network finds, then to
    `scale` times its low one."""
    reach = network.spec.neighbours
    doubled: deque[Enlarged[T]] = deque()
    # Neighbors need the luma of a frame, which is a third of it.
    for index, own, near in with_neighbors(
        _lumas(_doubled(shot, data_term, kernel), doubled), reach
    ):
        one = doubled.popleft()
        size = scaled_size(one.low.shape[-2], one.low.shape[-1], scale)
        # Parts of a frame are cut where sizes are whole multiples, and not resized.
        box = registrar.work_box(index, reach) if one.picture.shape[-2:] == size else None
        if box is None or box.area > 0:
            # No name for what is made on the way: it is large, and would live until the next frame.
            picture = _sharpened(
                one,
                network.missing_detail(input_planes(own, index, near, reach, registrar, box)),
                size,
                box,
                data_term,
                kernel,
            )
            one = one._replace(picture=picture)
        yield one._replace(box=box)


def _lumas(
    shot: Iterator[tuple[Enlarged[T], torch.Tensor]], frames: deque[Enlarged[T]]
) -> Iterator[torch.Tensor]:
    """Hand on the luma of each frame, and put the frame itself aside."""
    for one, gray in shot:
        frames.append(one)
        yield gray


def _sharpened(
    one: Enlarged[T],
    detail: torch.Tensor,
    size: tuple[int, int],
    box: Box | None,
    data_term: DataTerm,
    kernel: Blur | None,
) -> torch.Tensor:
    """Add detail, (1, H, W), to a picture, or to a `box` of it; bring it to a size, and towards its
    input."""
    base, low = one.picture, one.low
    if box is not None:
        ratio = size[0] // low.shape[-2]
        base, low = box.cut(base, ratio), box.cut(low)
        size = base.shape[-2], base.shape[-1]
    enlarged = detail.shape[-2] / low.shape[-2]
    # The network finds detail of luma alone, which is added to all channels.
    picture = base + data_term.believed(detail, enlarged)
    if picture.shape[-2:] != size:
        picture = resize_on_cores(picture, *size)
    return data_term.back_project(picture.clamp_(0, 1), low, kernel)


def _doubled(
    shot: Iterator[Enlarged[T]], data_term: DataTerm, kernel: Blur | None
) -> Iterator[tuple[Enlarged[T], torch.Tensor]]:
    """Enlarge each picture to twice its size; with the luma of that."""
    last, base, luma = None, None, None
    for one in shot:
        # Where a whole frame stands still, fusion hands on the picture before.
        if base is None or luma is None or one.picture is not last:
            height, width = one.picture.shape[-2:]
            shown = one.picture
            if isinstance(kernel, GaussianBlur) and shown is one.low:
                shown = data_term.sharpened(shown, kernel)
            base = resize_on_cores(shown, STAGE_SCALE * height, STAGE_SCALE * width)
            last, luma = one.picture, to_luma(base)
        yield one._replace(picture=base), luma
