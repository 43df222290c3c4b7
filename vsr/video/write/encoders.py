"""Choice of the encoder, its options, size and pixel format: settled and tried before any work."""

import io
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fractions import Fraction
from pathlib import Path

import av
import torch
from av.codec.codec import UnknownCodecError
from av.video.codeccontext import VideoCodecContext

from vsr.errors import OutputError, UsageError
from vsr.image.orientation import Orientation
from vsr.records import option
from vsr.video.color import UNSUPPORTED_MATRICES, resolve_matrix
from vsr.video.frames import ClipInfo, ColorDescription
from vsr.video.pixel_layouts import LAYOUTS, PixelLayout, conversion_loss, nearest_format
from vsr.video.write.hdr import svtav1_options, x264_options, x265_options

AUTO = "auto"

DEFAULT_RATE = Fraction(25)


@dataclass(frozen=True)
class EncodeOptions:
    """Options of encoding. None leaves the choice to the encoder's entry in ENCODERS."""

    codec: str = option(
        AUTO,
        "auto, libx264, libx265, libsvtav1, ffv1, png, ffmpeg:NAME.",
        "-c",
        "--codec",
    )
    crf: float | None = option(None, "Quality of the encoding; lower is better.", "--crf")
    preset: str | None = option(
        None, "Preset of the encoder, such as slow or veryfast.", "--preset"
    )
    pixel_format: str | None = option(
        None, "Pixel format by its libav name; default: like the input.", "--pix-fmt"
    )
    segment_frames: int = option(
        240, "Frames of a segment: an interrupted run loses at most so many.", at_least=1
    )
    verify: bool = option(False, "Decode the finished file before it gets its name.", "--verify")


@dataclass(frozen=True)
class EncoderProfile:
    """Settings of one encoder of libav."""

    quality_option: str | None = None
    quality: float | None = None
    preset: str | None = None
    worst_quality: float = 51
    """The best is 0. Beyond these libav takes any number and the encoder quietly its own limit."""
    fixed: dict[str, str] = field(default_factory=dict)
    pixel_formats: tuple[str, ...] | None = None
    """Those offered; None offers all of the encoder's."""
    alpha_containers: tuple[str, ...] = ()
    """Where its pixel formats with transparency are of use."""
    hdr: Callable[[ClipInfo], dict[str, str]] | None = None
    """HDR10's static metadata as options; None where the encoder does not take it."""


MATROSKA = ("matroska", "webm")

# With AVX-512 x264 chooses qualities of 8-bit blocks that differ from run to run, even on one
# thread. AVX2 is as fast here, and a resumed run or another machine then gives the same bits.
_X264_FIXED = (
    {"x264-params": "asm=avx2"} if torch.backends.cpu.get_cpu_capability().startswith("AVX") else {}
)

ENCODERS = {
    "libx264": EncoderProfile("crf", 16, "medium", fixed=_X264_FIXED, hdr=x264_options),
    "libx265": EncoderProfile(
        "crf", 18, "medium", fixed={"x265-params": "log-level=none"}, hdr=x265_options
    ),
    "libsvtav1": EncoderProfile("crf", 20, "6", worst_quality=63, hdr=svtav1_options),
    "libvpx-vp9": EncoderProfile(
        "crf",
        24,
        worst_quality=63,
        fixed={"cpu-used": "4", "row-mt": "1"},
        pixel_formats=("yuv420p", "yuva420p"),
        alpha_containers=MATROSKA,
    ),
    "ffv1": EncoderProfile(
        fixed={"level": "3", "slicecrc": "1"}, alpha_containers=(*MATROSKA, "avi", "mov", "nut")
    ),
    # 4:2:0 in the two layouts that PyAV takes over from CUDA without a copy.
    # None of the three takes HDR10's static metadata as options.
    "h264_nvenc": EncoderProfile(
        "cq", 18, "p5", fixed={"rc": "vbr"}, pixel_formats=("nv12", "yuv444p")
    ),
    "hevc_nvenc": EncoderProfile(
        "cq", 20, "p5", fixed={"rc": "vbr"}, pixel_formats=("nv12", "p010le", "yuv444p")
    ),
    "av1_nvenc": EncoderProfile(
        "cq", 24, "p5", fixed={"rc": "vbr"}, pixel_formats=("nv12", "p010le")
    ),
}
"""The in-process encoders. To add one, add a line."""

MAX_H264_SIDE_PX = 4096
"""Longest side that NVENC encodes as H.264; HEVC and AV1 go to 8192."""

AUTO_CODECS = ("libx264", "libsvtav1")
"""Encoders that `auto` tries, in this order, where NVENC does not serve; the second is for WebM."""

AUTO_ALPHA_CODEC = "libvpx-vp9"
"""Encoder that `auto` takes for a clip with transparency, where the container can hold it."""


@dataclass(frozen=True)
class VideoPlan:
    """Everything that an encoder has to know of its frames."""

    codec: str
    height: int
    """Encoded height: even where the pixel format needs it."""
    width: int
    pixel_format: str
    matrix: int
    """H.273 code point used for the conversion; 0 for RGB."""
    color: ColorDescription
    time_base: Fraction
    rate: Fraction
    sample_aspect_ratio: Fraction | None
    options: tuple[tuple[str, str], ...]
    on_gpu: bool = False
    turn: Orientation = Orientation()
    """Turn that pixels are given before they are encoded."""

    @property
    def layout(self) -> PixelLayout:
        return LAYOUTS[self.pixel_format]


def plan_video(
    source: ClipInfo,
    height: int,
    width: int,
    codec: str,
    options: EncodeOptions,
    container_format: str,
) -> VideoPlan:
    """Settle everything about the video. Raises UsageError for an option that the encoder does not
    have."""
    profile = ENCODERS[codec]
    formats = profile.pixel_formats or [f.name for f in av.Codec(codec, "w").video_formats or []]
    if container_format not in profile.alpha_containers:
        formats = [name for name in formats if not (name in LAYOUTS and LAYOUTS[name].has_alpha)]
    pixel_format = choose_pixel_format(source.pixel_format, formats, options.pixel_format, codec)
    codec_options = _codec_options(codec, profile, options)
    for name, value in ({} if profile.hdr is None else profile.hdr(source)).items():
        codec_options[name] = f"{codec_options[name]}:{value}" if name in codec_options else value
    return plan_with_format(source, height, width, codec, pixel_format, codec_options)


def plan_with_format(
    source: ClipInfo,
    height: int,
    width: int,
    codec: str,
    pixel_format: str,
    codec_options: dict[str, str],
) -> VideoPlan:
    """Settle the format of the video for an encoder and a pixel format that are already chosen."""
    layout = LAYOUTS[pixel_format]
    # RGB that becomes YUV is written in limited range, which every player assumes.
    was_rgb = LAYOUTS[nearest_format(source.pixel_format)].is_rgb
    full_range = layout.is_rgb or (source.color.full_range and not was_rgb)
    matrix = 0 if layout.is_rgb else resolve_matrix(source.color, source.height)
    # What comes in and goes out by the same wrong matrix is right again under its own name.
    tag = (
        source.color.matrix
        if source.color.matrix in UNSUPPORTED_MATRICES and not (layout.is_rgb or was_rgb)
        else matrix
    )
    return VideoPlan(
        codec=codec,
        height=_round_up_to_multiple(height, layout.chroma_rows),
        width=_round_up_to_multiple(width, layout.chroma_columns),
        pixel_format=pixel_format,
        matrix=matrix,
        color=ColorDescription(tag, source.color.primaries, source.color.transfer, full_range),
        time_base=source.time_base,
        rate=source.average_rate or DEFAULT_RATE,
        sample_aspect_ratio=source.sample_aspect_ratio,
        options=tuple(codec_options.items()),
        turn=source.turn,
    )


def choose_encoder(
    source: ClipInfo,
    height: int,
    width: int,
    options: EncodeOptions,
    container_format: str,
    device: torch.device,
) -> tuple[VideoPlan, list[str]]:
    """Choose an encoder that really opens for these frames, with sentences on the choice.

    Raises UsageError for an unknown name or option, OutputError where the encoder or the container
    refuses.
    """
    # A named encoder is taken or refused; only `auto` looks for another.
    if options.codec != AUTO:
        _check_known(options.codec)
        plan = plan_video(source, height, width, options.codec, options, container_format)
        return _check_opens(_without_b_frames_in_avi(plan, container_format), container_format), []
    notes: list[str] = []
    if device.type == "cuda":
        reasons = []
        for nvenc in nvenc_codecs(source, height, width, options):
            try:
                plan = plan_video(source, height, width, nvenc, options, container_format)
                plan = _without_b_frames_in_avi(plan, container_format)
                plan = _check_opens(plan, container_format)
                return replace(plan, on_gpu=plan.pixel_format in _CUDA_FORMATS), notes
            except (OutputError, UsageError) as error:
                reasons.append(str(error))
        notes.append(f"encoded on the CPU, not by NVENC: {'; '.join(dict.fromkeys(reasons))}")
    tried: tuple[str, ...] = AUTO_CODECS
    if LAYOUTS[nearest_format(source.pixel_format)].has_alpha and container_format in MATROSKA:
        tried = (AUTO_ALPHA_CODEC,)
    codec = next((name for name in tried if container_supports(container_format, name)), None)
    if codec is None:
        raise OutputError(
            f"{container_label(container_format)} takes neither {' nor '.join(AUTO_CODECS)}: use "
            ".mkv, or name an encoder with -c"
        )
    if codec == AUTO_ALPHA_CODEC:
        notes.append(
            f"encoded by {codec}: it keeps the transparency, which {AUTO_CODECS[0]} does not"
        )
    elif codec != AUTO_CODECS[0]:
        notes.append(f"encoded by {codec}: {container_format} does not take {AUTO_CODECS[0]}")
    plan = plan_video(source, height, width, codec, options, container_format)
    return _check_opens(_without_b_frames_in_avi(plan, container_format), container_format), notes


def nvenc_codecs(
    source: ClipInfo, height: int, width: int, options: EncodeOptions
) -> tuple[str, ...]:
    """List the encoders of a GPU that suit these frames, the best first.

    H.264 there has 8 bits and sides up to `MAX_H264_SIDE_PX`; beyond, HEVC, and AV1 where that does
    not open, as on old GPUs or in WebM.
    """
    wanted = options.pixel_format or source.pixel_format
    # A name that nothing knows is refused by whichever encoder comes first.
    is_deep = wanted in LAYOUTS and LAYOUTS[wanted].bits > 8
    if is_deep or max(height, width) > MAX_H264_SIDE_PX:
        return ("hevc_nvenc", "av1_nvenc")
    return ("h264_nvenc", "av1_nvenc")


def configure(context: VideoCodecContext, plan: VideoPlan) -> None:
    """Set up an encoder that is not open yet."""
    context.width, context.height = plan.width, plan.height
    context.time_base, context.framerate = plan.time_base, plan.rate
    # Quality decides; libav's default rate would cap it for some encoders.
    context.bit_rate = 0
    if plan.on_gpu:
        context.pix_fmt, context.sw_format = "cuda", plan.pixel_format
    else:
        context.pix_fmt = plan.pixel_format
    set_picture_tags(context, plan)
    context.options = dict(plan.options)


def set_picture_tags(context: VideoCodecContext, plan: VideoPlan) -> None:
    """Tag the shape of pixels and the color, by which a player shows the pictures."""
    if plan.sample_aspect_ratio is not None:
        context.sample_aspect_ratio = plan.sample_aspect_ratio
    context.colorspace, context.color_primaries = plan.color.matrix, plan.color.primaries
    context.color_trc = plan.color.transfer
    context.color_range = 2 if plan.color.full_range else 1


_CUDA_FORMATS = ("nv12", "p010le")


def _check_known(codec: str) -> None:
    if codec not in ENCODERS:
        near = get_close_matches(codec, [*ENCODERS, "png"], n=1)
        hint = (
            f"did you mean {near[0]}?"
            if near
            else f"known: {', '.join([AUTO, *ENCODERS, 'png', 'ffmpeg:NAME'])}"
        )
        raise UsageError(f"unknown encoder {codec}; {hint}")


def _codec_options(codec: str, profile: EncoderProfile, options: EncodeOptions) -> dict[str, str]:
    """Merge the user's options into the profile's. PyAV ignores names that a codec lacks: so they
    are refused here."""
    chosen = dict(profile.fixed)
    quality = profile.quality if options.crf is None else options.crf
    preset = options.preset or profile.preset
    if options.crf is not None and profile.quality_option is None:
        raise UsageError(f"{codec} is lossless and has no quality to set: leave out --crf")
    if options.crf is not None and not 0 <= options.crf <= profile.worst_quality:
        raise UsageError(
            f"{codec} does not take crf {options.crf:g}: quality goes from 0, the best, to "
            f"{profile.worst_quality:g}"
        )
    if options.preset is not None and profile.preset is None:
        raise UsageError(f"{codec} has no presets: leave out --preset")
    if quality is not None and profile.quality_option is not None:
        chosen[profile.quality_option] = f"{quality:g}"
    if preset is not None:
        chosen["preset"] = preset
    return chosen


def _without_b_frames_in_avi(plan: VideoPlan, container_format: str) -> VideoPlan:
    """Turn B-frames off for AVI, which counts frames as they are stored: reordered ones would be
    shown at each other's times."""
    if container_format != "avi":
        return plan
    return replace(plan, options=(*plan.options, ("bf", "0")))


def _check_opens(plan: VideoPlan, container_format: str) -> VideoPlan:
    """Return the plan once a trial has shown that the container takes it and the encoder opens.

    Raises UsageError where the encoder would open but for the user's options, else OutputError.
    """
    if not container_supports(container_format, plan.codec):
        raise OutputError(
            f"{container_label(container_format)} does not take video by {plan.codec}: use .mkv or "
            "another encoder"
        )
    reason = open_failure(plan)
    if reason is None:
        return plan
    # With usual options it opens: then the fault is the user's, and can be named.
    fixed = ENCODERS[plan.codec].fixed
    chosen = ", ".join(f"{name} {value}" for name, value in plan.options if name not in fixed)
    usual = _codec_options(plan.codec, ENCODERS[plan.codec], EncodeOptions())
    if (
        dict(plan.options) != usual
        and open_failure(replace(plan, options=tuple(usual.items()))) is None
    ):
        raise UsageError(
            f"{plan.codec} does not take {chosen} ({reason}): change or leave out --crf and "
            "--preset"
        )
    raise OutputError(
        f"{plan.codec} does not open for {plan.width}x{plan.height} {plan.pixel_format} "
        f"({chosen}): {reason}"
    )


def open_failure(plan: VideoPlan) -> str | None:
    """Find out why the encoder does not open for this plan; None where it does."""
    # The messages of these libraries are not about our caller's choices, and stderr is for
    # progress.
    os.environ.setdefault("SVT_LOG", "1")
    try:
        context = av.Codec(plan.codec, "w").create("video")
        configure(context, plan)
        context.open()
    except av.FFmpegError as error:
        return error.strerror or str(error)
    except UnknownCodecError:
        return "this build of libav lacks it"
    finally:
        drop_real_time_priority()
    return None


_UNSUPPORTED_CONTAINERS = ("mpeg", "vob", "dvd", "svcd", "vcd", "yuv4mpegpipe", "asf")
"""Containers for MPEG-1 and -2, raw video, and Windows Media. libavformat begins them with any
codec, and then cannot end them, or read them back with the same frames and times."""


_CONTAINER_LABELS = {
    **dict.fromkeys(("mpeg", "vob", "dvd", "svcd", "vcd"), "an MPEG program stream (.vob, .mpg)"),
    "asf": "Windows Media (.wmv)",
    "ipod": "MP4 (.m4v)",
    "yuv4mpegpipe": "raw video (.y4m)",
}
"""Names that users know of muxers that have others."""


def container_label(container_format: str) -> str:
    """Name a container as its users do."""
    return _CONTAINER_LABELS.get(container_format, container_format)


def container_supports(container_format: str, codec: str) -> bool:
    if container_format in _UNSUPPORTED_CONTAINERS:
        return False
    try:
        with av.open(io.BytesIO(), "w", format=container_format) as trial:
            trial.add_stream(codec)
    except (ValueError, UnknownCodecError):
        return False
    return True


def _round_up_to_multiple(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def choose_pixel_format(
    source_format: str, offered: Iterable[str], wanted: str | None, codec: str
) -> str:
    """Choose the format that the user wants, or that keeps most of the input: channels, RGB or YUV,
    depth, chroma, in this order."""
    # The yuvj twins are deprecated spellings of full range, which is a tag here.
    usable = [name for name in offered if name in LAYOUTS and not name.startswith("yuvj")]
    if wanted is not None:
        if wanted.replace("yuvj", "yuv") not in usable:
            raise UsageError(f"{codec} has no pixel format {wanted}; it has {', '.join(usable)}")
        return wanted.replace("yuvj", "yuv")
    source = LAYOUTS[nearest_format(source_format)]
    return min(usable, key=lambda name: conversion_loss(source, LAYOUTS[name]))


_THREADS_FOLDER = Path("/proc/self/task")


def drop_real_time_priority() -> None:
    """Give every thread of this process its usual share of the processor again, where the caller's
    was raised.

    SVT-AV1, run as root, makes its threads and the one that opens it real-time threads of the
    highest priority. These, and all processes that are started from them, come before everything
    else on the machine.
    """
    real_time = {getattr(os, name, None) for name in ("SCHED_FIFO", "SCHED_RR")}
    if not _THREADS_FOLDER.is_dir() or os.sched_getscheduler(0) not in real_time:
        return
    for thread in _THREADS_FOLDER.iterdir():
        # A thread may have ended since it was listed.
        with suppress(ProcessLookupError, PermissionError):
            if os.sched_getscheduler(int(thread.name)) in real_time:
                os.sched_setscheduler(int(thread.name), os.SCHED_OTHER, os.sched_param(0))
