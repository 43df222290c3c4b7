"""Side data of frames: HDR10's static metadata, and how a player turns the picture."""

import struct
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, cast

import av
from av.buffer import Buffer
from av.sidedata.sidedata import SideData as SideDataBuffer
from av.sidedata.sidedata import Type as SideData

from vsr.video.frames import LightLevel, MasteringDisplay
from vsr.video.read.icc_profile import without_profile

MAX_PQ_NITS = 10000
"""In cd/m2: the end of the PQ scale."""


def _unknown_kind(kinds: type[SideData], number: Any) -> SideData:
    """Make a member for a kind that libav has and PyAV has no name for."""
    kind = object.__new__(kinds)
    kind._name_, kind._value_ = f"NUMBER_{number}", number
    return kind


# PyAV 18 refuses to tell any side data of a frame that has a kind unknown to it, such as a
# photograph's Exif.
SideData._missing_ = classmethod(_unknown_kind)  # type: ignore[assignment]


def side_data(frame: av.VideoFrame, kind: SideData) -> bytes | None:
    """Copy the bytes of libav's structure of this kind, but for an ICC profile; None where the
    frame has none."""
    container = cast(Mapping[SideData, Buffer], without_profile(frame)[0].side_data)
    return bytes(container[kind]) if kind in container else None


def display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    """Read the nine numbers by which a player turns or mirrors the picture; None where it shows it
    as it is."""
    data = side_data(frame, SideData.DISPLAYMATRIX)
    return None if data is None else struct.unpack("=9i", data[:36])


def mastering_display(frame: av.VideoFrame) -> MasteringDisplay | None:
    """Read libav's AVMasteringDisplayMetadata: ten rationals and two flags; None where it is
    missing or cannot be meant."""
    data = side_data(frame, SideData.MASTERING_DISPLAY_METADATA)
    if data is None:
        return None
    numbers = struct.unpack("=22i", data[:88])
    has_primaries, has_luminance = numbers[20:]
    # Every second number is a denominator, and encoders do write zeros.
    if not (has_primaries and has_luminance) or not all(numbers[1:20:2]):
        return None
    values = [Fraction(numbers[i], numbers[i + 1]) for i in range(0, 20, 2)]
    # Broken encoders write zeros or units of another standard: such figures would mislead a TV.
    red, green, blue, white = ((values[i], values[i + 1]) for i in range(0, 8, 2))
    if (
        not all(0 <= value <= 1 for value in values[:8])
        or not 0 <= values[8] < values[9] <= MAX_PQ_NITS
    ):
        return None
    return MasteringDisplay((red, green, blue), white, values[8], values[9])


def light_level(frame: av.VideoFrame) -> LightLevel | None:
    """Read libav's AVContentLightMetadata; None where there is none."""
    data = side_data(frame, SideData.CONTENT_LIGHT_LEVEL)
    return None if data is None else LightLevel(*struct.unpack("=2I", data[:8]))


KEPT, CODING, SOUND = "kept", "coding", "sound"
"""Fates of side data that nobody misses: carried over, about how the source was coded, of sound,
which is copied."""

SIDE_DATA_FATES = {
    0: CODING,  # pan and scan windows, which MPEG-2 decoders attach to every frame
    1: "closed captions inside the picture stream (CEA-608/708)",
    2: "the stereoscopic layout (3D)",
    3: SOUND,  # matrix encoding
    4: SOUND,  # downmix
    5: SOUND,  # replay gain
    6: KEPT,  # display matrix
    7: "the active format description",
    8: CODING,  # motion vectors
    9: SOUND,  # samples to skip
    10: SOUND,  # audio service type
    11: KEPT,  # mastering display
    12: CODING,  # GOP timecode: every MPEG-2 stream counts its own
    13: "the spherical projection (360 degrees)",
    14: KEPT,  # content light level
    15: "the ICC color profile",
    16: "SMPTE 12M timecodes inside the picture stream",
    17: "HDR10+ metadata, which describes pictures that are no longer the same",
    18: CODING,  # regions of interest
    19: CODING,  # encoding parameters
    20: CODING,  # unregistered SEI: encoders sign with it
    21: CODING,  # film grain, which the decoder has applied
    22: "detected objects",
    23: "Dolby Vision metadata, which describes pictures that are no longer the same",
    24: "Dolby Vision metadata, which describes pictures that are no longer the same",
    25: "HDR Vivid metadata, which describes pictures that are no longer the same",
    26: "the ambient viewing environment",
    27: CODING,  # hints on changed areas
    28: "LCEVC enhancement data",
    29: CODING,  # number of the view, of multiview streams that are decoded as one
    30: "reference displays of 3D pictures",
    31: CODING,  # Exif, whose orientation comes as a display matrix
}
"""Fate of each kind of side data, by libav's number: carried over, of no use, or named as
lost by these words."""


def lost_side_data(frame: av.VideoFrame) -> list[str]:
    """Name the side data of a frame that no result can hold."""
    bare, has_profile = without_profile(frame)
    lost = [str(SIDE_DATA_FATES[_ICC_PROFILE])] if has_profile else []
    for entry in cast(Iterable[SideDataBuffer], bare.side_data):
        number = cast(int, entry.type.value)
        fate = SIDE_DATA_FATES.get(number, f"side data of kind {number}")
        if fate not in (KEPT, CODING, SOUND) and not (number == _STEREO and _is_flat(entry)):
            lost.append(fate)
    return lost


_STEREO, _ICC_PROFILE = 2, 15


def _is_flat(stereo: SideDataBuffer) -> bool:
    """Tell whether AVStereo3D says that there is one view."""
    return bytes(stereo)[:4] == bytes(4)


def scale_display_matrix(matrix: tuple[int, ...], factor: Fraction) -> tuple[int, ...]:
    """Scale the display matrix for a picture enlarged by `factor`: only where it moves the picture
    does the size matter."""
    # The matrix is stored as 32-bit integers.
    limit = 2**31 - 1
    moved = (max(-limit, min(limit, round(value * factor))) for value in matrix[6:8])
    return (*matrix[:6], *moved, matrix[8])
