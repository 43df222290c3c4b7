"""Video super-resolution that learns from the clip itself, with flicker control.

`vsr.run`, `vsr.compare`, `vsr.steady`, `vsr.train_keyframe`, `vsr.train_shot`, `vsr.distil` and
`vsr.score` do what the commands do. `vsr.FrameServer` makes frames that another program asks for,
of a `vsr.FrameSource`; the other names describe such frames. All are imported when first used.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "run": "vsr.pipeline.api",
    "compare": "vsr.pipeline.api",
    "steady": "vsr.pipeline.api",
    "train_keyframe": "vsr.train.keyframe",
    "train_shot": "vsr.train.shot",
    "distil": "vsr.train.distill",
    "score": "vsr.evaluate",
    "VsrError": "vsr.errors",
    "FrameServer": "vsr.pipeline.frame_server",
    "FrameSource": "vsr.pipeline.frame_server",
    "ClipInfo": "vsr.video.frames",
    "ColorDescription": "vsr.video.frames",
    "Frame": "vsr.video.frames",
    "PixelLayout": "vsr.video.pixel_layouts",
    "from_rgb": "vsr.video.color",
    "resolve_matrix": "vsr.video.color",
    "to_rgb": "vsr.video.color",
}

__all__ = [
    "ClipInfo",
    "ColorDescription",
    "Frame",
    "FrameServer",
    "FrameSource",
    "PixelLayout",
    "VsrError",
    "compare",
    "distil",
    "from_rgb",
    "resolve_matrix",
    "run",
    "score",
    "steady",
    "to_rgb",
    "train_keyframe",
    "train_shot",
]


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import vsr` is instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vsr' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
