"""Conversion between samples of YUV, gray and RGB pixel formats and float RGB: the only module
that knows matrices and ranges.

Arithmetic: ITU-T H.273, 8.3 (range and depth) and 8.4 (matrix). Chroma of 4:2:0 and 4:2:2 sits on
the left luma column (MPEG-2 siting): up by linear interpolation; down by [1 2 1] across and, for
4:2:0, the mean of two rows.
"""

from collections.abc import Iterator, Sequence

import av
import numpy as np
import numpy.typing as npt
import torch

from vsr.video.frames import ColorDescription
from vsr.video.pixel_layouts import ALPHA, LAYOUTS, PADDING, PixelLayout

LUMA_COEFFICIENTS = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601, 625 lines
    6: (0.299, 0.114),  # BT.601, 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020, non-constant luminance
}
"""By H.273 matrix code point."""

YCGCO = 8

UNSUPPORTED_MATRICES = frozenset(range(10, 18))
"""Matrix code points that H.273 defines and that are not converted here, such as ICtCp."""

MAX_SD_HEIGHT = 576


def resolve_matrix(color: ColorDescription, height: int) -> int:
    """Choose the matrix that a stream of this height is decoded with: its tag, else by its
    primaries or its height.

    Where neither tells, BT.601 is taken up to 576 lines and BT.709 above; BT.2020 for its
    primaries.

    Resolve once, from the input's height, and use the same matrix on the way out: an enlarged clip
    stays in its own.
    """
    if color.matrix in LUMA_COEFFICIENTS or color.matrix == YCGCO:
        return color.matrix
    if color.primaries == 9:
        return 9
    return 6 if height <= MAX_SD_HEIGHT else 1


def changed_colors(first: ColorDescription, later: ColorDescription) -> list[str]:
    """Name what a player would show in wrong colors, since the result has the tags of its first
    frame; a change among those of standard range that look alike is none."""
    pairs = {
        "primaries": (_alike(first.primaries, _SDR_PRIMARIES), first.primaries, later.primaries),
        "transfer": (_alike(first.transfer, _SDR_TRANSFERS), first.transfer, later.transfer),
    }
    return [
        f"the color {name} {now}, where the clip begins with {before}"
        for name, (alike, before, now) in pairs.items()
        if now not in alike
    ]


def _alike(value: int, family: tuple[int, ...]) -> tuple[int, ...]:
    return family if value in family else (value, 2)


_SDR_PRIMARIES = (1, 2, 5, 6, 7)
"""BT.709, unspecified, BT.601 and SMPTE 240M (H.273, table 2)."""
_SDR_TRANSFERS = (1, 2, 4, 5, 6, 7, 11, 12, 13, 14, 15)
"""Curves of standard range (H.273, table 3); 8 is linear, 16 PQ, 18 HLG."""


def to_rgb(
    channels: Sequence[torch.Tensor], layout: PixelLayout, matrix: int, full_range: bool
) -> torch.Tensor:
    """Convert sample values of each channel to float32 RGB (3, H, W) in [0, 1], on the channels'
    device.

    RGB is taken as full range. Values outside of the RGB cube are clipped to it.
    """
    height, width = channels[0].shape
    # RGB carries no range of its own in these formats: 0 is black and the largest code white.
    if layout.is_rgb:
        rgb = torch.stack([channel.float() for channel in channels])
        return rgb.clamp_(0, 1) if layout.is_float else rgb.mul_(1 / (2**layout.bits - 1))
    zero, luma_span, chroma_span, neutral = _code_values(layout, full_range)
    if layout.num_channels == 1:
        # Gray is R = G = B = luma, whatever the matrix: each matrix's rows of chroma sum to zero.
        luma = (channels[0].float() - zero).mul_(1 / luma_span).clamp_(0, 1)
        return luma.expand(3, height, width).contiguous()
    yuv = torch.empty(3, height, width, device=channels[0].device)
    yuv[0] = channels[0]
    for target, chroma in zip(yuv[1:], channels[1:], strict=True):
        target.copy_(_upsample_chroma(chroma.float() - neutral, layout, height, width))
    # The inverse is taken in float64: a matrix rounded first would add its error at 16 bits.
    to_yuv = _rgb_to_yuv(matrix) * np.array([[luma_span], [chroma_span], [chroma_span]])
    back = _as_tensor(np.linalg.inv(to_yuv), yuv.device)
    # Black sits at `zero`, not at 0: subtracting it before the product would need another pass.
    black = -zero * back[:, :1]
    return torch.addmm(black, back, yuv.view(3, -1)).clamp_(0, 1).view(3, height, width)


def from_rgb(
    rgb: torch.Tensor, layout: PixelLayout, matrix: int, full_range: bool
) -> list[torch.Tensor]:
    """Convert float RGB (3, H, W) to sample values of each channel, rounded to uint8 or uint16
    where the layout has no floats, on the device of `rgb`.

    The inverse of `to_rgb`. RGB is written in full range.
    """
    if layout.is_rgb:
        if layout.is_float:
            return list(rgb)
        return [_to_samples(channel * (2**layout.bits - 1) + 0.5, layout.bits) for channel in rgb]
    zero, luma_span, chroma_span, neutral = _code_values(layout, full_range)
    coefficients = _rgb_to_yuv(matrix) * np.array([[luma_span], [chroma_span], [chroma_span]])
    # The half makes the truncation to integers below a rounding; folded into the offsets it costs
    # no pass over the picture.
    offsets = np.array([[zero], [neutral], [neutral]]) + (0.0 if layout.is_float else 0.5)
    count = layout.num_channels
    yuv = torch.addmm(
        _as_tensor(offsets[:count], rgb.device),
        _as_tensor(coefficients[:count], rgb.device),
        rgb.reshape(3, -1),
    ).view(count, *rgb.shape[1:])
    chroma = [_downsample_chroma(channel, layout) for channel in yuv[1:]]
    if layout.is_float:
        return [yuv[0], *chroma]
    return [_to_samples(channel, layout.bits) for channel in (yuv[0], *chroma)]


def read_channels(frame: av.VideoFrame, layout: PixelLayout) -> list[torch.Tensor]:
    """Copy the samples of a decoded frame, one (rows, columns) uint8 or uint16 tensor per
    channel."""
    channels = [torch.empty(0)] * layout.num_channels
    for channel, samples in _channel_views(frame, layout):
        if channel >= 0:
            channels[channel] = _to_tensor(samples, layout)
    return channels


def read_alpha(frame: av.VideoFrame, layout: PixelLayout) -> torch.Tensor | None:
    """Copy the opacity of a decoded frame as float32 (rows, columns) in [0, 1]; None where its
    format has none."""
    for channel, samples in _channel_views(frame, layout):
        if channel == ALPHA:
            return _to_tensor(samples, layout).float().mul_(1 / (2**layout.bits - 1))
    return None


def write_channels(
    channels: Sequence[torch.Tensor], pixel_format: str, alpha: torch.Tensor | None = None
) -> av.VideoFrame:
    """Make a frame in main memory of these samples, and this opacity in [0, 1]; None is
    opaque."""
    layout = LAYOUTS[pixel_format]
    height, width = channels[0].shape
    frame = av.VideoFrame(width, height, pixel_format)
    # Padding is written as opaque: rgb0 that somebody reads as rgba stays visible.
    most = 2**layout.bits - 1
    for channel, samples in _channel_views(frame, layout):
        if channel >= 0:
            samples[:] = channels[channel].cpu().numpy() << layout.unused_low_bits
        elif channel == PADDING or alpha is None:
            samples[:] = most
        else:
            samples[:] = _to_samples(alpha * most + 0.5, layout.bits).cpu().numpy()
    return frame


def _channel_views(
    frame: av.VideoFrame, layout: PixelLayout
) -> Iterator[tuple[int, npt.NDArray[np.unsignedinteger]]]:
    """Yield each channel, padding and alpha among them, with a writable view of its samples as
    (rows, columns)."""
    for plane, order in zip(frame.planes, layout.planes, strict=True):
        samples = _plane_array(plane, layout, len(order))
        yield from ((channel, samples[:, :, position]) for position, channel in enumerate(order))


def _to_tensor(samples: npt.NDArray[np.unsignedinteger], layout: PixelLayout) -> torch.Tensor:
    # Newer libav pads lines; the copy drops the padding and gives native byte order.
    native = samples.astype(layout.sample_type.newbyteorder("="), copy=True)
    return torch.from_numpy(native >> layout.unused_low_bits)


def frame_bytes(frame: av.VideoFrame, layout: PixelLayout) -> bytes:
    """Copy the planes of a frame one after another without padding, as raw video has them."""
    pairs = zip(frame.planes, layout.planes, strict=True)
    return b"".join(_plane_array(plane, layout, len(order)).tobytes() for plane, order in pairs)


def interleave_chroma(
    channels: Sequence[torch.Tensor], layout: PixelLayout
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make the Y and CbCr planes of nv12 or p010, on the channels' device, for a hardware
    encoder."""
    chroma = torch.stack([channels[1], channels[2]], dim=-1)
    if layout.unused_low_bits == 0:
        return channels[0].contiguous(), chroma
    # p010 keeps its ten bits at the top of sixteen.
    scale = 2**layout.unused_low_bits
    return (channels[0].int() * scale).to(torch.uint16), (chroma.int() * scale).to(torch.uint16)


def _plane_array(
    plane: av.video.plane.VideoPlane, layout: PixelLayout, group: int
) -> npt.NDArray[np.unsignedinteger]:
    """View a plane, writable, as (rows, columns, samples per pixel), without the padding of its
    lines."""
    # libav aligns lines for SIMD: what lies beyond the width is not picture.
    samples = np.asarray(memoryview(plane)).view(layout.sample_type)
    lines = samples.reshape(plane.height, -1)[:, : plane.width * group]
    return lines.reshape(plane.height, plane.width, group)


def _code_values(layout: PixelLayout, full_range: bool) -> tuple[float, float, float, float]:
    """Code of black, steps from black to white, steps over the whole of chroma, code of neutral
    chroma."""
    if layout.is_float:
        return 0.0, 1.0, 1.0, 0.0
    bits = layout.bits
    # H.273 equations 20 to 25: full range scales by 2^n - 1, limited range by 2^(n - 8).
    if full_range:
        return 0.0, 2.0**bits - 1, 2.0**bits - 1, 2.0 ** (bits - 1)
    scale = 2.0 ** (bits - 8)
    return 16 * scale, 219 * scale, 224 * scale, 128 * scale


def _rgb_to_yuv(matrix: int) -> npt.NDArray[np.float64]:
    # YCgCo has no luma coefficients in the sense of H.273, 8.3: its rows are given outright.
    if matrix == YCGCO:
        return np.array([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0, -0.5]])
    red, blue = LUMA_COEFFICIENTS[matrix]
    luma = np.array([red, 1 - red - blue, blue])
    # Cb and Cr are B - Y and R - Y, scaled to -0.5..0.5.
    return np.stack(
        [luma, (np.eye(3)[2] - luma) / (2 * (1 - blue)), (np.eye(3)[0] - luma) / (2 * (1 - red))]
    )


def _as_tensor(values: npt.NDArray[np.float64], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(values).float().to(device)


def _to_samples(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Truncate to integers of the depth; `values` is overwritten."""
    return values.clamp_(0, 2**bits - 1).to(torch.uint8 if bits == 8 else torch.uint16)


def _upsample_chroma(
    chroma: torch.Tensor, layout: PixelLayout, height: int, width: int
) -> torch.Tensor:
    if layout.chroma_rows == 2:
        chroma = _upsample_rows(chroma)[:height]
    if layout.chroma_columns == 2:
        chroma = _upsample_columns(chroma)[:, :width]
    return chroma


def _upsample_rows(chroma: torch.Tensor) -> torch.Tensor:
    """Each chroma row lies midway between two luma rows: weights 3/4 and 1/4, edges repeated."""
    rows = chroma.new_empty(2 * chroma.shape[0], chroma.shape[1])
    # Luma rows 2i and 2i + 1 lie a quarter of a chroma row above and below chroma row i.
    rows[0::2] = torch.lerp(chroma, torch.cat([chroma[:1], chroma[:-1]]), 0.25)
    rows[1::2] = torch.lerp(chroma, torch.cat([chroma[1:], chroma[-1:]]), 0.25)
    return rows


def _upsample_columns(chroma: torch.Tensor) -> torch.Tensor:
    """Each chroma column lies on an even luma column; the odd ones are the mean of their
    neighbors."""
    columns = chroma.new_empty(chroma.shape[0], 2 * chroma.shape[1])
    # MPEG-2 siting: no even column is interpolated, so that what was sharp stays sharp.
    columns[:, 0::2] = chroma
    columns[:, 1::2] = torch.lerp(chroma, torch.cat([chroma[:, 1:], chroma[:, -1:]], dim=1), 0.5)
    return columns


def _downsample_chroma(chroma: torch.Tensor, layout: PixelLayout) -> torch.Tensor:
    if layout.chroma_rows == 2:
        # The chroma sample lies midway between its two luma rows: their plain mean.
        odd = _odd_samples(chroma, 0)
        chroma = torch.lerp(chroma[::2], odd, 0.5)
    if layout.chroma_columns == 2:
        odd = _odd_samples(chroma, 1)
        even = chroma[:, ::2]
        # [1 2 1] / 4 centered on the even column; the column left of the first one repeats it.
        before = torch.cat([even[:, :1], odd[:, : even.shape[1] - 1]], dim=1)
        chroma = torch.lerp(even, torch.lerp(before, odd, 0.5), 0.5)
    return chroma


def _odd_samples(values: torch.Tensor, dim: int) -> torch.Tensor:
    """Every second row or column from the second; an odd count repeats the last."""
    length = values.shape[dim]
    if length % 2:
        values = torch.cat([values, values.narrow(dim, length - 1, 1)], dim)
    return values[1::2] if dim == 0 else values[:, 1::2]
