"""Disk space that a result will take, roughly, and whether there is as much."""

import shutil
from math import prod
from pathlib import Path

from vsr.errors import OutputError
from vsr.video.write.encoders import VideoPlan

BITS_PER_PIXEL = {
    "libx264": 0.25,
    "libx265": 0.15,
    "libsvtav1": 0.12,
    "h264_nvenc": 0.3,
    "hevc_nvenc": 0.2,
    "av1_nvenc": 0.2,
    "ffv1": 9.0,
    "png": 14.0,
}
"""Bits per pixel of enlarged video at the default quality; real clips lie between a quarter and
four times of it."""
DEFAULT_BITS_PER_PIXEL = 0.3
MIN_FREE_SHARE = 0.25
"""Share of the estimate: with less room than this the run would certainly fail."""
FLOAT_RGB_BYTES_PER_PIXEL = 12
"""Bytes of the last picture, which is kept exactly beside the segments; for a moment there are
two."""


def estimate_bytes(plan: VideoPlan, num_frames: int) -> int:
    """Estimate the size of the finished video alone."""
    bits = BITS_PER_PIXEL.get(plan.codec, DEFAULT_BITS_PER_PIXEL)
    return round(bits / 8 * plan.width * plan.height * num_frames)


def check_space(
    plan: VideoPlan, num_frames: int | None, num_done: int, output: Path, work: Path
) -> list[str]:
    """List sentences on disks that may become full. Raises OutputError for one that certainly will,
    and OSError."""
    if num_frames is None:
        return []
    film = estimate_bytes(plan, num_frames)
    segments = estimate_bytes(plan, max(num_frames - num_done, 0))
    segments += 2 * FLOAT_RGB_BYTES_PER_PIXEL * prod((plan.width, plan.height))
    # Pictures are moved from the work to the output, which costs nothing on one disk.
    wanted: dict[int, tuple[Path, int]] = {work.stat().st_dev: (work, segments)}
    device = output.parent.stat().st_dev
    # Work and result on one disk must fit beside each other.
    before = wanted.get(device, (output.parent, 0))[1]
    wanted[device] = (output.parent, before + (0 if plan.codec == "png" and before else film))
    notes = []
    for folder, needed in wanted.values():
        free = shutil.disk_usage(folder).free
        words = (
            f"{folder} has {format_bytes(free)} free; the result and the unfinished work need "
            f"about {format_bytes(needed)}"
        )
        if free < MIN_FREE_SHARE * needed:
            raise OutputError(f"{words}: make room, or name another place with -o or --work-dir")
        if free < needed:
            notes.append(
                f"{words}: if the disk becomes full, make room and run the same command again"
            )
    return notes


def format_bytes(num_bytes: float) -> str:
    """Format bytes in the unit that suits them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} TB"
