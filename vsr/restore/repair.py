"""Repairs of film: brightness that flickers is evened along time, scratches are replaced by what
other frames or their sides show, and dirt that stands on one frame alone by what both neighbors
show there.

All work on the frames of a clip before anything is made of them, shot by shot, and only where a
look at the shot's first frames has found the fault, unless they are asked for. Only what is seen
elsewhere is put back; frames at a shot's ends keep their dirt.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice
from typing import Literal, TypeVar

import numpy as np
import torch

from vsr.records import option
from vsr.restore.brightness import BrightnessEvening, flicker_along_motion
from vsr.restore.dirt import DirtRemoval, SpotCounts, look_for_dirt
from vsr.restore.scratch_removal import PROBE_FRAMES as SCRATCH_PROBE_FRAMES
from vsr.restore.scratch_removal import ScratchRemoval
from vsr.restore.scratches import find_scratches
from vsr.video.frames import Frame

PROBE_FRAMES = 16
"""Frames looked at, from a shot's start."""
MIN_FLICKER = 0.01
"""Brightness flicker, as a share of the brightness, from which on a shot is evened."""
MIN_DIRT_SPOTS = 1.2
"""Spots of dirt on a frame, in the mean, from which on a shot is cleaned."""

T = TypeVar("T")
Marked = tuple[int, int, tuple[Frame, T]]
"""Number of a shot, its first frame, and a frame with whatever belongs to it."""
Switch = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class RepairOptions:
    """Options of the repair of film, and of what is noisy."""

    brightness: Switch = option(
        "auto",
        "Even brightness that flickers from frame to frame; auto where it is found.",
        "--even-brightness",
        metavar="auto|on|off",
        commands=("run",),
    )
    dirt: Switch = option(
        "auto",
        "Remove dirt that stands on one frame alone; auto where it is found.",
        "--remove-dirt",
        metavar="auto|on|off",
        commands=("run",),
    )
    scratches: Switch = option(
        "auto",
        "Remove scratches, upright lines that stay while the scene moves behind them; auto where "
        "they are found.",
        "--remove-scratches",
        metavar="auto|on|off",
        commands=("run",),
    )
    noise: Switch = option(
        "auto",
        "Remove camera noise; auto where it is found, and the policy is no interpolation.",
        "--remove-noise",
        metavar="auto|on|off",
        commands=("run",),
    )

    def at_strength(self, restore: float) -> "RepairOptions":
        """Leave out what is not asked for by name where nothing is to be restored."""
        if restore > 0:
            return self
        switches = (self.brightness, self.dirt, self.scratches, self.noise)
        return RepairOptions(*("off" if each == "auto" else each for each in switches))

    @property
    def is_off(self) -> bool:
        """Whether film is left as it is; noise is removed by a stage of its own."""
        return self.brightness == self.dirt == self.scratches == "off"


NO_REPAIR = RepairOptions("off", "off", "off", "off")


@dataclass
class ShotRepair:
    """Account of the repair of one shot."""

    first_frame: int
    brightness_flicker: float
    """Share of the brightness by which frames depart from the mean of their neighbors."""
    dirt_spots: float
    """Spots on a frame alone, mean over the shot's first frames."""
    scratches: int
    """Scratches on the shot's first frames."""
    frames_evened: int = 0
    spots_removed: int = 0
    pixels_removed: int = 0
    scratches_removed: int = 0
    scratch_pixels_removed: int = 0


@dataclass(frozen=True)
class FilmFaults:
    """Faults of a film shot, and which of them are to be repaired."""

    brightness_flicker: float
    """Share of the brightness by which frames depart from the mean of their neighbors."""
    scratches: int
    dirt_spots: float
    """Spots on a frame alone, in the mean."""
    spots: SpotCounts
    """Counts by which their removal tells rain from dirt."""
    evens: bool
    heals: bool
    """Whether scratches are removed."""
    cleans: bool
    """Whether dirt is removed."""

    @property
    def to_repair(self) -> str:
        """Names of those that are to be repaired; empty: none."""
        wanted = {"uneven brightness": self.evens, "scratches": self.heals, "dirt": self.cleans}
        return " and ".join(word for word, is_on in wanted.items() if is_on)


def find_faults(pictures: Sequence[np.ndarray], options: RepairOptions) -> FilmFaults:
    """Look at the first frames of a shot, RGB (3, H, W) in gray levels, for what options do not
    switch off; at least one, and `scratch_removal.PROBE_FRAMES` of them to see scratches."""
    flicker, spots, counts, scratches = 0.0, 0.0, SpotCounts(), 0
    if options.brightness != "off":
        flicker = flicker_along_motion(pictures, PROBE_FRAMES)
    evens = _is_wanted(options.brightness, flicker, MIN_FLICKER)
    # Each fault is looked for in what will be cleaned: flicker hides both, and scratches dirt.
    if evens:
        pictures = list(BrightnessEvening().through(pictures))
    if options.scratches != "off":
        scratches = len(find_scratches(pictures))
    heals = _is_wanted(options.scratches, scratches, 1)
    if options.dirt != "off":
        seen = list(ScratchRemoval().through(pictures)) if scratches else pictures
        spots, counts = look_for_dirt(seen[:PROBE_FRAMES])
    cleans = _is_wanted(options.dirt, spots, MIN_DIRT_SPOTS)
    return FilmFaults(flicker, scratches, spots, counts, evens, heals, cleans)


class FilmRepair:
    """Repairs the frames of a clip, as they are read."""

    def __init__(
        self, options: RepairOptions, notify: Callable[[str], None] = lambda _: None
    ) -> None:
        self.options = options
        self._notify = notify
        self.shots: list[ShotRepair] = []
        """Shots of which something was repaired or was to be."""

    def through(self, marked: Iterable[Marked[T]]) -> Iterator[Marked[T]]:
        """Repair marked frames; as many come out, each with the same time and owner."""
        if self.options.is_off:
            yield from marked
            return
        for _, group in groupby(marked, key=lambda item: item[0]):
            yield from self._through_shot(group)

    def _through_shot(self, shot: Iterator[Marked[T]]) -> Iterator[Marked[T]]:
        num_probed = PROBE_FRAMES if self.options.scratches == "off" else SCRATCH_PROBE_FRAMES
        probe = list(islice(shot, num_probed))
        faults = find_faults([to_levels(frame) for _, _, (frame, _) in probe], self.options)
        if not faults.to_repair:
            yield from chain(probe, shot)
            return
        account = ShotRepair(
            probe[0][1], faults.brightness_flicker, faults.dirt_spots, faults.scratches
        )
        self.shots.append(account)
        self._notify(f"shot from frame {account.first_frame}: repairing {faults.to_repair}")
        # Owners wait while the repairs look ahead.
        owners: deque[Marked[T]] = deque()

        def levels() -> Iterator[np.ndarray]:
            for item in chain(probe, shot):
                owners.append(item)
                yield to_levels(item[2][0])

        stream: Iterator[np.ndarray] = levels()
        if faults.evens:
            evening = BrightnessEvening()
            stream = evening.through(stream)
        if faults.heals:
            healing = ScratchRemoval()
            stream = healing.through(stream)
        if faults.cleans:
            removal = DirtRemoval(faults.spots)
            stream = removal.through(stream)
        for picture in stream:
            number, first_frame, (frame, owner) = owners.popleft()
            pixels = torch.from_numpy(picture).to(frame.pixels.device) / 255
            # What was not touched keeps its very values.
            changed = (pixels - frame.pixels).abs() > 1e-5
            if changed.any():
                frame = replace(frame, pixels=torch.where(changed, pixels, frame.pixels))
            account.frames_evened = evening.frames_evened if faults.evens else 0
            if faults.heals:
                account.scratches_removed = healing.scratches_removed
                account.scratch_pixels_removed = healing.pixels_removed
            if faults.cleans:
                account.spots_removed = removal.spots_removed
                account.pixels_removed = removal.pixels_removed
            yield number, first_frame, (frame, owner)


def _is_wanted(switch: Switch, found: float, least: float) -> bool:
    return switch == "on" or (switch == "auto" and found >= least)


def to_levels(frame: Frame) -> np.ndarray:
    """RGB (3, H, W) in gray levels."""
    levels: np.ndarray = 255 * frame.pixels.cpu().numpy()
    return levels
