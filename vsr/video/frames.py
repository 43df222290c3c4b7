"""A frame that knows its time, and the description of a clip: the nouns that every stage
shares."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import torch

from vsr.image.orientation import Orientation


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture with its exact time."""

    pixels: torch.Tensor
    """float32 RGB, (3, H, W), values in [0, 1]."""
    index: int
    """Position in the clip, from 0."""
    pts: int
    """Presentation time in units of `time_base`."""
    time_base: Fraction
    """Seconds per unit of `pts`."""
    duration: int = 0
    """Time for which the frame is shown, in units of `time_base`; 0 where the clip does not say."""
    alpha: torch.Tensor | None = None
    """Opacity as float32 (h, w) in [0, 1], at the source's size whatever that of `pixels`; None
    where all is opaque."""
    quantizer_step: float | None = None
    """Mean step that the codec rounded transform coefficients of luma to, in grey levels; None
    where the decoder does not tell."""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[0] != 3 or self.pixels.dtype != torch.float32:
            raise ValueError(
                f"a frame holds float32 pixels of shape (3, H, W), got {self.pixels.dtype} "
                f"{tuple(self.pixels.shape)}"
            )

    @property
    def height(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[2])

    @property
    def seconds(self) -> float:
        """Presentation time in seconds."""
        return float(self.pts * self.time_base)


@dataclass(frozen=True)
class ColorDescription:
    """The four color tags of a stream, as ITU-T H.273 code points; 2 means unspecified."""

    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    full_range: bool = False


@dataclass(frozen=True)
class MasteringDisplay:
    """The display that HDR pictures were graded on (SMPTE ST 2086)."""

    primaries: tuple[
        tuple[Fraction, Fraction], tuple[Fraction, Fraction], tuple[Fraction, Fraction]
    ]
    """CIE x and y of red, green and blue."""
    white_point: tuple[Fraction, Fraction]
    min_luminance: Fraction
    """In cd/m2."""
    max_luminance: Fraction


@dataclass(frozen=True)
class LightLevel:
    """Brightness of HDR pictures (CTA-861.3), in cd/m2."""

    max_content: int
    max_frame_average: int


@dataclass(frozen=True)
class ClipInfo:
    """A clip's video stream as its container describes it. Numbers "from header" are claims, not
    counts."""

    path: Path
    """The file, the folder of pictures, or `-` for standard input."""
    container: str
    """Name of the container format as libavformat has it; `images` for a folder or a numbered
    sequence."""
    codec: str
    width: int
    """Stored width in pixels, before rotation."""
    height: int
    """Stored height in pixels, before rotation."""
    pixel_format: str
    """libav name, such as `yuv420p10le`."""
    color: ColorDescription
    time_base: Fraction
    average_rate: Fraction | None
    """Frames per second as the header has it; never used for timing."""
    sample_aspect_ratio: Fraction | None
    """Width of a pixel over its height; None where the clip does not say."""
    rotation_degrees: int
    """Counter-clockwise rotation that a player applies; frames are handed on unrotated."""
    num_frames_from_header: int | None
    duration_seconds_from_header: float | None
    identity: str
    """SHA-256 over the file's size and its first and last MiB: tells whether two runs saw the same
    clip. Empty for standard input."""
    display_matrix: tuple[int, ...] | None = None
    """The nine numbers by which a player turns or mirrors the picture, as ISO/IEC 14496-12 stores
    them."""
    mastering_display: MasteringDisplay | None = None
    light_level: LightLevel | None = None
    turn: Orientation = Orientation()
    """Turn that a writer gives the pixels, for outputs that have no tag for it."""
    stream_index: int = 0
    """Number of the stream that is upscaled."""
    shift_seconds: Fraction = Fraction(0)
    """Added to all times of the source, which begin before zero."""

    @property
    def has_full_color(self) -> bool:
        """Whether color is known to be stored at the size of luma."""
        try:
            stored = av.VideoFormat(self.pixel_format, 2, 2)
        except ValueError:
            # Another program's name; such frames tell no quantizer of their own.
            return False
        return all(part.width == part.height == 2 for part in stored.components)

    @property
    def num_frames_expected(self) -> int | None:
        """Number of frames that the header has, or that follows from what it has."""
        if self.num_frames_from_header:
            return self.num_frames_from_header
        if not self.duration_seconds_from_header or not self.average_rate:
            return None
        return round(self.duration_seconds_from_header * self.average_rate)

    @property
    def is_still(self) -> bool:
        """Whether the clip is one picture file, such as a photograph."""
        return self.container == "image2" or self.container.endswith("_pipe")
