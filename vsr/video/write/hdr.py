"""HDR10's static metadata as the encoders take it."""

from collections.abc import Sequence
from fractions import Fraction

from vsr.video.frames import ClipInfo, LightLevel, MasteringDisplay

CHROMATICITY_UNITS = 50000
LUMINANCE_UNITS = 10000
"""Units of the SEI message (ITU-T H.265, D.3.28): steps per one, and per cd/m2."""


def x264_options(source: ClipInfo) -> dict[str, str]:
    """Options of libav's libx264."""
    return _option(
        "x264-params", "mastering-display", _in_sei_units(source), "cll", source.light_level
    )


def x265_options(source: ClipInfo) -> dict[str, str]:
    """Options of libav's libx265."""
    options = _option(
        "x265-params", "master-display", _in_sei_units(source), "max-cll", source.light_level
    )
    return {name: f"hdr10=1:repeat-headers=1:{value}" for name, value in options.items()}


def svtav1_options(source: ClipInfo) -> dict[str, str]:
    """Options of libav's libsvtav1."""
    return _option(
        "svtav1-params",
        "mastering-display",
        _in_plain_units(source),
        "content-light",
        source.light_level,
    )


def _option(
    option: str, display_name: str, display: str | None, light_name: str, light: LightLevel | None
) -> dict[str, str]:
    parts = [] if display is None else [f"{display_name}={display}"]
    if light is not None:
        parts.append(f"{light_name}={light.max_content},{light.max_frame_average}")
    return {option: ":".join(parts)} if parts else {}


def _in_sei_units(source: ClipInfo) -> str | None:
    display = source.mastering_display
    if display is None:
        return None
    points = [[round(value * CHROMATICITY_UNITS) for value in point] for point in _points(display)]
    light = [
        round(value * LUMINANCE_UNITS) for value in (display.max_luminance, display.min_luminance)
    ]
    return _format_points([*points, light])


def _in_plain_units(source: ClipInfo) -> str | None:
    display = source.mastering_display
    if display is None:
        return None
    points = [*_points(display), (display.max_luminance, display.min_luminance)]
    return _format_points([[f"{float(value):.6g}" for value in point] for point in points])


def _points(display: MasteringDisplay) -> list[tuple[Fraction, Fraction]]:
    red, green, blue = display.primaries
    return [green, blue, red, display.white_point]


def _format_points(pairs: Sequence[Sequence[object]]) -> str:
    named = zip(("G", "B", "R", "WP", "L"), pairs, strict=True)
    return "".join(f"{name}({first},{second})" for name, (first, second) in named)
