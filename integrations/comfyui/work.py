"""What the nodes do, without ComfyUI: on files, and on batches of pictures."""

import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch

import vsr
from vsr.progress import Listener
from vsr.video.reader import open_clip

BATCH_RATE = Fraction(25)
"""Frames per second of a batch, which has no times; nothing made of a picture depends on it."""


class Cancelled(Exception):  # noqa: N818 - it is no error
    """The user has cancelled the prompt."""


@dataclass(frozen=True)
class Hooks:
    """Hooks of the host. A call may come from the thread of the node alone."""

    progress: Callable[[int, int], None]
    """Takes the frames done, and of how many."""
    is_cancelled: Callable[[], bool]

    def check(self) -> None:
        """Raise `Cancelled` where the user has asked for it."""
        if self.is_cancelled():
            raise Cancelled

    def tell(self, done: int, total: int | None) -> None:
        """Tell of frames done; where nothing tells how many there are, one more is expected."""
        if not self.is_cancelled():
            self.progress(done, max(total or done + 1, done))


def upscale_file(
    clip: str | Path,
    output: str | Path,
    options: dict[str, object],
    settings: Sequence[str],
    hooks: Hooks,
) -> list[str]:
    """Upscale a video file into another, frame by frame, as `vsr run` does; the notes of the run.

    `options` are keywords of `vsr.run`. What is done when the user cancels is kept: the same call
    goes on with it. Raises `Cancelled`, and `VsrError` for a user's mistake.
    """
    notes: list[str] = []
    with open_clip(clip) as reader:
        # Of many containers the header tells a duration alone.
        expected = reader.info.num_frames_expected
    listener = Listener(notify=notes.append, on_progress=hooks.tell, should_stop=hooks.is_cancelled)
    try:
        listener = listener.expecting(expected)
        vsr.run(clip, output, listener=listener, settings=settings, metrics=(), **options)
    except vsr.VsrError:
        hooks.check()
        raise
    return notes


def steady_batch(
    images: torch.Tensor,
    low_resolution: torch.Tensor,
    options: dict[str, object],
    settings: Sequence[str],
    hooks: Hooks,
) -> torch.Tensor:
    """Steady pictures (N, H, W, C) along the motion of those (N, h, w, C) that they were made of.

    Values lie in [0, 1], C is 3 or 4; what comes out is (N, H, W, 3) on the CPU. `options` are
    keywords of `vsr.steady`. Raises `Cancelled`, and `VsrError` for a user's mistake.
    """
    for name, batch in (("images", images), ("low_resolution", low_resolution)):
        if batch.ndim != 4 or batch.shape[-1] not in (3, 4):
            raise ValueError(
                f"{name} has the shape {tuple(batch.shape)}; expected pictures (N, H, W, 3)."
            )
    if len(images) != len(low_resolution):
        raise ValueError(
            f"images holds {len(images)} pictures and low_resolution {len(low_resolution)}: give "
            "the same pictures before and after upscaling."
        )
    count, height, width, _ = images.shape
    info = vsr.ClipInfo(
        path=Path("images"),
        container="comfyui",
        codec="rawvideo",
        width=low_resolution.shape[2],
        height=low_resolution.shape[1],
        pixel_format="rgb",
        color=vsr.ColorDescription(),
        time_base=1 / BATCH_RATE,
        average_rate=BATCH_RATE,
        sample_aspect_ratio=None,
        rotation_degrees=0,
        num_frames_from_header=count,
        duration_seconds_from_header=None,
        identity="",
    )
    source = vsr.FrameSource(
        info,
        count,
        lambda index: vsr.Frame(_pixels(low_resolution[index]), index, index, info.time_base),
        lambda index: _pixels(images[index]),
        (height, width),
    )
    # Pictures are asked for in order: none need be kept.
    server = vsr.FrameServer(source, options=options, settings=settings, cache_bytes=0)
    steadied = torch.empty(count, height, width, 3)
    for index in range(count):
        hooks.check()
        (pixels,) = server.frame(index)
        steadied[index] = torch.from_numpy(pixels).permute(1, 2, 0)
        hooks.tell(index + 1, count)
    return steadied


def score_file(
    result: str | Path,
    reference: str | Path | None,
    low_resolution: str | Path | None,
    metrics: Sequence[str],
    hooks: Hooks,
) -> dict[str, float]:
    """Score a video file as `vsr score` does: the mean of each metric that has one.

    Without `metrics` all that can be computed. Raises `Cancelled`, and `VsrError` for a user's
    mistake.
    """

    def progress(done: int, total: int | None) -> None:
        hooks.check()
        hooks.tell(done, total)

    scores = vsr.score(
        result, reference, low_resolution, metrics=tuple(metrics) or None, progress=progress
    )
    means = {name: figure.mean for name, figure in scores.results[0].metrics.items()}
    return {name: mean for name, mean in means.items() if mean is not None}


@contextmanager
def on_disk(source: str | io.BytesIO, folder: str | Path) -> Iterator[Path]:
    """Give the file of a video: its own, or a copy in `folder` of one that lies in memory, which
    goes again."""
    if not isinstance(source, io.BytesIO):
        yield Path(source)
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".video") as copy:
        source.seek(0)
        while piece := source.read(2**20):
            copy.write(piece)
        copy.flush()
        yield Path(copy.name)


def split_settings(text: str) -> list[str]:
    """Split lines of `key=value`, as `--set` takes them."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _pixels(picture: torch.Tensor) -> torch.Tensor:
    """Make float32 (3, H, W) in [0, 1] of a picture (H, W, C)."""
    return picture[..., :3].permute(2, 0, 1).float().clamp(0, 1).contiguous().cpu()
