"""Draw `docs/figures/vapoursynth.png`: the sample in VapourSynth, before and after `steady`.

    python -m tools.vapoursynth_environment FOLDER
    FOLDER/bin/python -m tools.vapoursynth_figure

Crops, and one row of pixels over time.
"""

from typing import Any

import numpy as np
import vapoursynth as vs

import vsr.vapoursynth
from benchmarks.figure import FIGURES, SAMPLES, draw


def main() -> None:
    """Enlarge the sample by one model, frame by frame, steady it, and draw both."""
    core: Any = vs.core
    clip = core.bs.VideoSource(str(SAMPLES / "clip.mp4"), cachemode=0)
    large = vsr.vapoursynth.upscale(clip, SAMPLES / "ckpts", policy="smi", steady=0)
    calm = vsr.vapoursynth.steady(large, low_resolution=clip)
    clips = {"clip, bicubic": clip.resize.Bicubic(large.width, large.height)}
    clips |= {"upscale(steady=0)": large, "steady": calm}
    draw(FIGURES / "vapoursynth.png", {name: pictures(each) for name, each in clips.items()})


def pictures(clip: Any) -> list[np.ndarray]:
    """Read all frames as uint8 RGB (H, W, 3)."""
    rgb = clip.resize.Bicubic(format=vs.RGB24, matrix_in=6)
    return [
        np.stack([np.asarray(frame[plane]) for plane in range(3)], -1) for frame in rgb.frames()
    ]


if __name__ == "__main__":
    main()
