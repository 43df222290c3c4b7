"""VapourSynth: `upscale` and `steady` on a clip of a script, frame by frame and in any order.

    import vsr.vapoursynth
    large = vsr.vapoursynth.upscale(clip, models="ckpts/")
    calm = vsr.vapoursynth.steady(large_by_another, low_resolution=clip)

A result has the format of the clip that it is made of. Mistakes raise `vs.Error`.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

try:
    import vapoursynth as vs
except ImportError as error:
    raise ImportError(
        "vsr.vapoursynth needs VapourSynth, which needs Python 3.12 or newer: "
        "pip install 'steady-vsr[vapoursynth]'"
    ) from error

import vsr

BITS = (8, 9, 10, 12, 14, 16)
"""Depths of integer samples that are taken."""
MAX_MATRIX = 9
"""Largest H.273 code point of a matrix that is converted."""
NO_RATE = Fraction(25)
"""Frames per second of a clip with a variable rate; nothing made of a frame depends on it."""


def upscale(
    clip: "vs.VideoNode",
    models: str | Path | None = None,
    *,
    policy: str | None = None,
    upscaler: str | Path | None = None,
    scale: float | None = None,
    steady: float | Literal["auto"] | None = None,
    device: str | None = None,
    recipe: str | Path | None = None,
    settings: Sequence[str] = (),
    cache_mb: int = 512,
) -> "vs.VideoNode":
    """Enlarge a clip as `vsr run` does, by the bank `models`, or by the shipped prior without one.

    Keywords are options of that command; `settings` hold the others, such as `("restore=0.5",)`.
    Nothing is trained. A frame that is asked for out of order is made again from the last
    checkpoint of its shot; finished frames and checkpoints take up to `cache_mb` MiB.
    """
    options = {
        "policy": policy,
        "upscaler": upscaler,
        "scale": scale,
        "steady": steady,
        "device": device,
    }
    source = _Clip(clip, "the clip")
    return _serve(source, source.frames(), models, recipe, settings, options, cache_mb)


def steady(
    clip: "vs.VideoNode",
    low_resolution: "vs.VideoNode",
    *,
    steady: float | Literal["auto"] | None = None,
    target_flicker: float | None = None,
    restore: float | Literal["auto"] | None = None,
    grain: float | Literal["keep"] | None = None,
    device: str | None = None,
    recipe: str | Path | None = None,
    settings: Sequence[str] = (),
    cache_mb: int = 512,
) -> "vs.VideoNode":
    """Keep `clip`, which any upscaler made of `low_resolution`, steady along its motion, as
    `vsr steady` does.

    Frames belong together by their number. Keywords are options of that command.
    """
    options = {
        "steady": steady,
        "target_flicker": target_flicker,
        "restore": restore,
        "grain": grain,
        "device": device,
    }
    large, low = _Clip(clip, "the enlarged clip"), _Clip(low_resolution, "low_resolution")
    if (large.color_family == vs.RGB) != (low.color_family == vs.RGB):
        raise vs.Error(
            f"{large.name} is {large.format.name} and {low.name} {low.format.name}: convert one of "
            "them with resize, by the matrix that the upscaler has used."
        )
    if clip.num_frames != low_resolution.num_frames:
        raise vs.Error(
            f"{large.name} has {clip.num_frames} frames and {low.name} "
            f"{low_resolution.num_frames}: both must hold the same frames."
        )
    return _serve(large, low.frames(large), None, recipe, settings, options, cache_mb)


class _Clip:
    """A clip of a script, and how its samples are to be read."""

    def __init__(self, node: "vs.VideoNode", name: str) -> None:
        """Look at the format, and at the properties of the first frame, which hold for all."""
        if not isinstance(node, vs.VideoNode):
            raise vs.Error(f"{name} is a {type(node).__name__}; expected a vs.VideoNode.")
        self.node, self.name, self.format = node, name, node.format
        if not self.format or self.format.color_family == vs.UNDEFINED or not node.width:
            raise vs.Error(
                f"{name} changes its format or size midway: convert it with resize, or split it."
            )
        self.color_family = self.format.color_family
        self.layout = _layout(self.format, name)
        props = node.get_frame(0).props
        matrix = int(props.get("_Matrix", 2))
        if matrix > MAX_MATRIX:
            raise vs.Error(f"{name} has the matrix {matrix}, which is not converted: use resize.")
        self.full_range = _is_full_range(props, self.color_family == vs.RGB)
        if self.color_family == vs.RGB and not self.full_range:
            raise vs.Error(f"{name} is RGB of limited range: make it full range with resize.")
        self.color = vsr.ColorDescription(
            matrix,
            int(props.get("_Primaries", 2)),
            int(props.get("_Transfer", 2)),
            self.full_range,
        )
        self.matrix = vsr.resolve_matrix(self.color, node.height)
        self.knows_cuts = "_SceneChangePrev" in props

    def frames(self, large: "_Clip | None" = None) -> "vsr.FrameSource":
        """Describe the clip, with the pictures of `large` that were made of it."""
        node = self.node
        rate = Fraction(node.fps_num, node.fps_den) if node.fps_num else NO_RATE
        info = vsr.ClipInfo(
            path=Path(self.name),
            container="vapoursynth",
            codec="rawvideo",
            width=node.width,
            height=node.height,
            pixel_format=self.format.name,
            color=self.color,
            time_base=1 / rate,
            average_rate=rate,
            sample_aspect_ratio=None,
            rotation_degrees=0,
            num_frames_from_header=node.num_frames,
            duration_seconds_from_header=None,
            identity="",
        )

        def read(index: int) -> vsr.Frame:
            return vsr.Frame(self.pixels(index), index, index, info.time_base)

        def begins_shot(index: int) -> bool:
            return bool(node.get_frame(index).props.get("_SceneChangePrev", 0))

        return vsr.FrameSource(
            info,
            node.num_frames,
            read,
            None if large is None else large.pixels,
            None if large is None else (large.node.height, large.node.width),
            begins_shot if self.knows_cuts else None,
        )

    def pixels(self, index: int) -> torch.Tensor:
        """Read a frame as float32 RGB (3, H, W) in [0, 1]."""
        with self.node.get_frame(index) as frame:
            if frame.props.get("_FieldBased", 0):
                raise vs.Error(
                    f"frame {index} of {self.name} is interlaced (_FieldBased): deinterlace the "
                    "clip first, or where it is not, use std.SetFieldBased(0)."
                )
            samples = [np.array(frame[plane]) for plane in range(self.format.num_planes)]
        if self.layout.is_float:
            samples = [plane.astype(np.float32) for plane in samples]
        channels = [torch.from_numpy(plane) for plane in samples]
        rgb: torch.Tensor = vsr.to_rgb(channels, self.layout, self.matrix, self.full_range)
        return rgb

    def planes(self, frame: "vsr.Frame") -> list[np.ndarray]:
        """Make the samples of a result, in the clip's format."""
        rows, columns = self.layout.chroma_rows, self.layout.chroma_columns
        bottom, right = -frame.height % rows, -frame.width % columns
        # A subsampled format has whole chroma samples: the last row and column are repeated.
        pixels = torch.nn.functional.pad(
            frame.pixels[None], (0, right, 0, bottom), mode="replicate"
        )[0]
        channels = vsr.from_rgb(pixels, self.layout, self.matrix, self.full_range)
        planes = [channel.numpy() for channel in channels]
        is_half = self.layout.is_float and self.format.bits_per_sample == 16
        return [plane.astype(np.float16) for plane in planes] if is_half else planes


def _layout(format: "vs.VideoFormat", name: str) -> "vsr.PixelLayout":
    is_float = format.sample_type == vs.FLOAT
    if (
        not (is_float or format.bits_per_sample in BITS)
        or max(format.subsampling_w, format.subsampling_h) > 1
    ):
        raise vs.Error(
            f"{name} is {format.name}; expected gray, RGB, 4:2:0, 4:2:2, 4:4:0 or 4:4:4 of 8, 9, "
            "10, 12, 14 or 16 bits or floats: convert it with resize."
        )
    return vsr.PixelLayout(
        tuple((plane,) for plane in range(format.num_planes)),
        is_rgb=format.color_family == vs.RGB,
        bits=32 if is_float else format.bits_per_sample,
        chroma_rows=1 << format.subsampling_h,
        chroma_columns=1 << format.subsampling_w,
    )


def _is_full_range(props: "vs.FrameProps", is_rgb: bool) -> bool:
    if "_Range" in props:
        return int(props["_Range"]) == 1
    # The earlier name, with the opposite meaning of its numbers.
    if "_ColorRange" in props:
        return int(props["_ColorRange"]) == 0
    return is_rgb


def _serve(
    form: _Clip,
    source: "vsr.FrameSource",
    models: str | Path | None,
    recipe: str | Path | None,
    settings: Sequence[str],
    options: Mapping[str, object],
    cache_mb: int,
) -> "vs.VideoNode":
    """Make the clip of the results, in the format of `form` and with its properties."""
    server = _as_vs_errors(
        lambda: vsr.FrameServer(
            source,
            form.planes,
            models=models,
            recipe=recipe,
            settings=settings,
            options=options,
            cache_bytes=cache_mb * 2**20,
        )
    )
    height, width = server.size
    blank = form.node.std.BlankClip(
        width=width + -width % form.layout.chroma_columns,
        height=height + -height % form.layout.chroma_rows,
        keep=True,
    )

    def make(n: int, f: "list[vs.VideoFrame]") -> "vs.VideoFrame":
        planes = _as_vs_errors(lambda: server.frame(n))
        frame, props = f[0].copy(), dict(f[1].props)
        for number, plane in enumerate(planes):
            np.copyto(np.asarray(frame[number]), plane)
        # Opacity of the source's size would not fit; sizes and fields are others now.
        for name in ("_Alpha", "_ColorRange", "_Field"):
            props.pop(name, None)
        is_last = n + 1 == source.num_frames
        props |= {
            "_Matrix": 0 if form.color_family == vs.RGB else form.matrix,
            "_Range": int(form.full_range),
            "_FieldBased": 0,
            "_SceneChangePrev": int(_as_vs_errors(lambda: server.begins_shot(n))),
            "_SceneChangeNext": int(is_last or _as_vs_errors(lambda: server.begins_shot(n + 1))),
        }
        frame.props.clear()
        frame.props.update(props)
        return frame

    return blank.std.ModifyFrame([blank, form.node], make)


def _as_vs_errors(call: "Callable[[], Any]") -> Any:
    """Call, and raise what a user can mend as VapourSynth's own error."""
    try:
        return call()
    except vsr.VsrError as error:
        raise vs.Error(str(error)) from None
