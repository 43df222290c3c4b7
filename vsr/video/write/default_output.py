"""Default output of a clip: its own container, or the nearest one that holds all of its streams."""

from contextlib import ExitStack
from pathlib import Path

import torch

from vsr.errors import OutputError
from vsr.video.frames import ClipInfo
from vsr.video.write.encoders import EncodeOptions
from vsr.video.write.mux import OutputFormat, format_of
from vsr.video.write.video_output import try_output

MATROSKA_SUFFIX = ".mkv"
PICTURE_SUFFIX = ".png"
TRIAL_SIDE_PX = 64
"""Height and width of a trial's picture: what a container holds does not depend on the size."""


def choose_suffix(source: ClipInfo, options: EncodeOptions) -> tuple[str, str | None]:
    """Choose the suffix of the result beside a clip, and a sentence where it is not the clip's own.

    The clip's own where that holds the video and all that Matroska would hold of the rest.
    """
    own = source.path.suffix
    if source.is_still:
        note = f"the result is a PNG: {own or 'the input'} is a format for single pictures"
        return PICTURE_SUFFIX, None if own.lower() == PICTURE_SUFFIX else note
    lost = _num_refused(source, options, own)
    if lost == 0:
        return own, None
    other = _num_refused(source, options, MATROSKA_SUFFIX)
    if lost is not None and (other is None or other >= lost):
        return own, None
    what = "an upscaled video" if lost is None else "all of its streams"
    return MATROSKA_SUFFIX, f"the result is a Matroska file: {own or 'its own'} cannot hold {what}"


def _num_refused(source: ClipInfo, options: EncodeOptions, suffix: str) -> int | None:
    """Number of streams that a container does not take; None where it does not take the video."""
    try:
        output = OutputFormat(format_of(Path(f"x{suffix}")), suffix)
        with ExitStack() as resources:
            size = (min(source.height, TRIAL_SIDE_PX), min(source.width, TRIAL_SIDE_PX))
            cpu = torch.device("cpu")
            return len(try_output(source, *size, options, output, cpu, resources).refused)
    except OutputError:
        return None
