"""Small clips made with PyAV, for benchmarks and tests: what is in them is known, and nothing is
stored in the repository."""

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vsr.video.write.encoders import drop_real_time_priority

MILLISECOND = Fraction(1, 1000)


def textured_picture(
    height: int, width: int, shift: tuple[float, float] = (0.0, 0.0), seed: int = 0
) -> np.ndarray:
    """A smooth random texture as uint8 RGB (H, W, 3), moved by `shift` = (down, right) in pixels.

    A sum of sinusoids: any shift is exact, there is no edge to wrap, and no two places look alike.
    """
    rng = np.random.default_rng(seed)
    rows = np.arange(height)[:, None] - shift[0]
    columns = np.arange(width)[None, :] - shift[1]
    picture = np.zeros((height, width, 3))
    for _ in range(24):
        frequency = rng.uniform(-0.16, 0.16, size=2)
        phase = rng.uniform(0, 2 * np.pi)
        wave = np.cos(2 * np.pi * (frequency[0] * rows + frequency[1] * columns) + phase)
        picture += wave[:, :, None] * rng.normal(size=3)
    return np.clip(np.rint(127.5 + 22 * picture), 0, 255).astype(np.uint8)


def moving_pictures(
    count: int,
    height: int = 32,
    width: int = 48,
    step: tuple[float, float] = (0.5, 1.0),
    seed: int = 0,
) -> list[np.ndarray]:
    """`count` pictures of one texture that moves by `step` = (down, right) pixels a frame."""
    return [textured_picture(height, width, (step[0] * i, step[1] * i), seed) for i in range(count)]


def two_shots(count: int, height: int = 32, width: int = 48) -> list[np.ndarray]:
    """`count` pictures with a hard cut before frame `count // 2`; the second shot is another,
    darker texture."""
    first = moving_pictures(count // 2, height, width, seed=1)
    second = moving_pictures(count - count // 2, height, width, seed=2)
    return first + [picture // 3 for picture in second]


def write_clip(
    path: Path | str,
    pictures: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 25),
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
    color: tuple[int, int, int, bool] | None = None,
    sample_aspect_ratio: Fraction | None = None,
    rotation_degrees: int = 0,
    audio_codec: str | None = None,
    audio_start_seconds: float = 0.0,
    subtitles: Sequence[tuple[int, int, bytes]] = (),
    attachment: tuple[str, str, bytes] | None = None,
    chapters: Sequence[tuple[float, float, str]] = (),
    tags: dict[str, str] | None = None,
    stream_tags: dict[str, str] | None = None,
) -> Path:
    """Encode uint8 RGB pictures (H, W, 3) at exact `pts` (default 0, 1, 2 ... of `time_base`).

    `color` is (matrix, primaries, transfer, full_range) as H.273 code points. `subtitles` are
    (start, duration, text) in milliseconds, stored as SubRip. `attachment` is (name, mimetype,
    bytes). `chapters` are (start, end, title) in seconds. Audio is a 440 Hz tone as long as the
    video.
    """
    path = Path(path)
    times = list(range(len(pictures))) if pts is None else list(pts)
    with av.open(
        os.fsdecode(path), "w", format=container_format, options=container_options or {}
    ) as out:
        video = _add_video(
            out, codec, pictures[0].shape, pixel_format, time_base, codec_options, color
        )
        if sample_aspect_ratio is not None:
            video.codec_context.sample_aspect_ratio = sample_aspect_ratio
        if rotation_degrees:
            video.set_display_rotation(rotation_degrees)
        video.metadata.update(stream_tags or {})
        audio = out.add_stream(audio_codec, rate=16000, layout="mono") if audio_codec else None
        subtitle = out.add_mux_stream("subrip", time_base=MILLISECOND) if subtitles else None
        if attachment is not None:
            out.add_attachment(*attachment)
        if chapters:
            out.set_chapters(
                [_chapter(number, *chapter) for number, chapter in enumerate(chapters)]
            )
        out.metadata.update(tags or {})
        packets = []
        for picture, when in zip(pictures, times, strict=True):
            packets += video.encode(_video_frame(picture, pixel_format, when, time_base, color))
        packets += video.encode(None)
        if audio is not None:
            packets += _encode_tone(
                audio, float((times[-1] + 1 - times[0]) * time_base), audio_start_seconds
            )
        packets += [_subrip_packet(subtitle, *entry) for entry in subtitles]
        out.mux(sorted(packets, key=lambda packet: packet.dts * packet.time_base))
    drop_real_time_priority()
    return path


def read_frames(path: Path | str) -> list[av.VideoFrame]:
    """Every frame of the first video stream, as PyAV decodes it."""
    with av.open(os.fsdecode(path)) as clip:
        return list(clip.decode(video=0))


def read_packets(path: Path | str, stream_index: int) -> list[tuple[Fraction, bytes]]:
    """(presentation time in seconds, payload) of every packet of one stream."""
    with av.open(os.fsdecode(path)) as clip:
        stream = clip.streams[stream_index]
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in clip.demux(stream)
            if packet.size
        ]


def _add_video(out, codec, shape, pixel_format, time_base, codec_options, color):
    video = out.add_stream(
        codec,
        rate=1 / time_base if time_base > Fraction(1, 240) else 25,
        options=codec_options or {},
    )
    video.height, video.width, video.pix_fmt = shape[0], shape[1], pixel_format
    video.time_base = video.codec_context.time_base = time_base
    if color is not None:
        context = video.codec_context
        context.colorspace, context.color_primaries, context.color_trc = color[:3]
        context.color_range = 2 if color[3] else 1
    return video


def _video_frame(picture, pixel_format, when, time_base, color):
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    if pixel_format.startswith(("rgb", "bgr", "gbr")):
        frame = frame.reformat(format=pixel_format)
    else:
        full = bool(color and color[3]) or pixel_format.startswith("yuvj")
        frame = frame.reformat(
            format=pixel_format,
            dst_colorspace={1: "ITU709", 9: "BT2020"}.get(color[0] if color else 6, "ITU601"),
            src_color_range="JPEG",
            dst_color_range="JPEG" if full else "MPEG",
        )
    frame.pts, frame.time_base = when, time_base
    return frame


def _encode_tone(stream, seconds, start_seconds):
    rate = stream.codec_context.sample_rate
    sample_format = stream.codec_context.format.name
    wave = np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
    wave = (
        (wave * 20000).astype(np.int16)
        if sample_format.startswith("s16")
        else wave.astype(np.float32)
    )
    packets = []
    for start in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(
            wave[None, start : start + 1024], format=sample_format, layout="mono"
        )
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = start + round(start_seconds * rate)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _subrip_packet(stream, start_ms, duration_ms, text):
    packet = av.Packet(text)
    packet.stream, packet.time_base = stream, MILLISECOND
    packet.pts = packet.dts = start_ms
    packet.duration = duration_ms
    return packet


def _chapter(number, start_seconds, end_seconds, title):
    return {
        "id": number,
        "start": round(start_seconds * 1000),
        "end": round(end_seconds * 1000),
        "time_base": MILLISECOND,
        "metadata": {"title": title},
    }
