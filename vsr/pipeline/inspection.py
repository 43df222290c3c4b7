"""A clip's degradation, shot by shot, without enlarging anything."""

from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from vsr.restore.color_restoration import color_quantizer
from vsr.restore.data_term import is_noisy, known_degradation, trust_for
from vsr.restore.degradation import MAX_PROBE_FRAMES, estimate_degradation
from vsr.restore.noise_removal import without_noise
from vsr.restore.repair import FilmFaults, RepairOptions, find_faults, to_levels
from vsr.restore.scratch_removal import PROBE_FRAMES as SCRATCH_PROBE_FRAMES
from vsr.video.reader import ReadOptions, open_clip
from vsr.video.shots import ShotOptions, split_shots
from vsr.video.step import Degradation


@dataclass(frozen=True)
class ShotInspection:
    """One shot, how it is degraded, and what a run would do about it."""

    first_frame: int
    degradation: Degradation
    remedies: tuple[str, ...]
    """Sentences for the user; empty for a clean shot."""

    def to_json(self) -> dict[str, Any]:
        """Plain values: the estimates stand beside the frame number."""
        return {
            "first_frame": self.first_frame,
            **asdict(self.degradation),
            "remedies": list(self.remedies),
        }


INSPECT_OPTIONS = ("restore", "grain", "read.deinterlace", "read.quantizer")
"""Options of a run that `vsr inspect` has as well."""


def inspect_clip(
    clip: str | Path,
    read: ReadOptions = ReadOptions(),
    restore: float = 1.0,
    shots: ShotOptions = ShotOptions(),
) -> tuple[list[ShotInspection], list[str]]:
    """Look at every shot of a clip, at its first frames; also the damage that reading it met.

    Fields are looked at as they are stored. Raises `InputError` where the clip cannot be read.
    """
    found = []
    with open_clip(clip, replace(read, deinterlace="off")) as reader:
        for shot in split_shots(reader.frames(), shots):
            probe = list(islice(shot.frames, SCRATCH_PROBE_FRAMES))
            frames = probe[:MAX_PROBE_FRAMES]
            degradation = estimate_degradation(frames, looks_back=read.quantizer is None)
            has_full_color = reader.info.has_full_color and read.quantizer is None
            remedies = _remedies(degradation, read, restore, has_full_color=has_full_color)
            # A run looks for faults of film in frames, not in the fields that these are made of.
            if not degradation.interlaced:
                options = RepairOptions().at_strength(restore)
                remedies += _repairs(find_faults([to_levels(frame) for frame in probe], options))
            found.append(ShotInspection(shot.first_frame, degradation, tuple(remedies)))
        return found, [str(damage) for damage in reader.damage]


def _remedies(
    degradation: Degradation, read: ReadOptions, restore: float, *, has_full_color: bool
) -> list[str]:
    """Tell what a run would do about a degradation, and what the user might ask for."""
    remedies = []
    if restore and is_noisy(degradation):
        remedies.append("the noise is removed, along the motion (--remove-noise off: left)")
        degradation = without_noise(degradation)
    if degradation.earlier_qp is not None:
        remedies.append(
            "it was compressed before it was stored as it is (--quantizer N: if you know it better)"
        )
    trust = trust_for(degradation, restore)
    if not trust.is_full:
        remedies.append(
            f"back-projection ignores differences below {trust.luma_threshold:.0f} levels of luma "
            f"and {trust.chroma_threshold:.0f} of color"
        )
    if restore and color_quantizer(degradation, has_full_color=has_full_color) is not None:
        remedies.append("colors are restored by the color network")
    known = known_degradation(degradation, restore)
    if known.blur is not None:
        remedies.append(
            f"the {known.blur.summary()} is undone by policy shot, with the prior as it is "
            "(--restore 0: left)"
        )
    elif not known.is_clean:
        remedies.append(f"a shot model is the prior's for {known.summary()}, without training")
    elif not restore and not known_degradation(degradation).is_clean:
        remedies.append("the blur is left; train with --kernel auto to undo it")
    if degradation.interlaced:
        made = {
            "auto": "deinterlaced to one frame per frame (--deinterlace field: two)",
            "frame": "deinterlaced to one frame per frame",
            "field": "deinterlaced to one frame per field",
        }
        remedies.append(made.get(read.deinterlace, "the fields are left as they are"))
    if degradation.telecined and read.deinterlace != "film":
        remedies.append("left as it is; --deinterlace film undoes the 3:2 pulldown")
    return remedies


def _repairs(faults: FilmFaults) -> list[str]:
    """Tell what a run would repair of a film."""
    repairs = []
    if faults.evens:
        repairs.append(
            f"brightness that flickers by {100 * faults.brightness_flicker:.1f} % is evened "
            "(--even-brightness off: left)"
        )
    if faults.heals:
        repairs.append(f"{faults.scratches} scratches are removed (--remove-scratches off: left)")
    if faults.cleans:
        repairs.append(
            f"dirt is removed, about {faults.dirt_spots:.0f} spots a frame "
            "(--remove-dirt off: left)"
        )
    return repairs
