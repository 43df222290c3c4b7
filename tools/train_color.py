"""Trains the color network of compressed shots on pictures that are set in motion and encoded.

    python -m tools.train_color PICTURES/training --validation PICTURES/validation \
        -o vsr/models/priors/color.safetensors

The pictures are those of `tools/gather_pictures.py`.
"""

import argparse
import io
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import av
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vsr import __version__
from vsr.files import write_atomically
from vsr.image.motion import FloatArray
from vsr.image.resample import resize
from vsr.models.color import COLOR_ARCH, ColorCard, encode_color_network
from vsr.models.networks.color_network import ColorNetwork, ColorNetworkSpec, to_planes
from vsr.restore.degradation import step_to_qp
from vsr.train.dataset.dataset import find_images, read_image
from vsr.train.dataset.methods import pictures_identity
from vsr.train.dataset.sequences import draw_blob
from vsr.video.color import from_rgb, read_channels, to_rgb, write_channels
from vsr.video.pixel_layouts import LAYOUTS
from vsr.video.read.quantizers import decoded_with_steps
from vsr.video.write.encoders import ENCODERS

RATE, MATRIX = 25, 1
SIDE_PX, FRAMES, KEPT_FRAMES = 96, 8, 5
"""Size of the sequences, and how many of their last frames are learned from."""
MAX_PICTURE_PX = 800
"""Limit of the shorter side: photographs are larger, and softer at their own size than films
are."""
DRAWN_PX = 400
"""Side of what is drawn here."""
DRAWN, COVERED, NOISY, MAX_NOISE = 0.2, 0.4, 0.25, 8.0
"""Shares of drawn pictures, of a second layer in front and of noise; its largest deviation."""
CENTERED, FULL_COLOR = 0.5, 0.05
"""Shares of color in the middle of each two pixels, as many converters write it, and of color at
full size; elsewhere it sits on the left one, as standards have it."""
CROP_PX, BATCH, RATE_OF_LEARNING = 56, 16, 2e-3
GRAY = 0.05
"""Share of crops without any color, which are to stay so."""
SOFTNESS = 6 / 255
"""Errors of color below it count by their square, larger ones by their size."""
MIN_MEAN_SQUARE = 2e-5
"""Mean square of the error from which a frame counts in validation: 1.1 gray levels."""
REPORT_EVERY, VALIDATION_SEQUENCES = 1000, 40


class Example(NamedTuple):
    """A decoded frame and what it should be, uint8 RGB (3, H, W)."""

    decoded: torch.Tensor
    clean: torch.Tensor
    quantizer: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--sequences", type=int, default=1800)
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    examples = list(make_examples(options.pictures, options.sequences, options.seed))
    judged = list(make_examples(options.validation, VALIDATION_SEQUENCES, options.seed + 1))
    print(f"{len(examples)} frames", flush=True)
    paths = find_images(options.pictures)

    def report(step: int, network: ColorNetwork) -> None:
        gain = gain_db(network, judged)
        print(f"step {step}: {gain:+.2f} dB", flush=True)
        training = {
            "pictures": len(paths),
            "pictures_hash": pictures_identity(paths),
            "sequences": options.sequences,
            "steps": step,
            "seed": options.seed,
            "validation_gain_db": round(gain, 2),
        }
        card = ColorCard(COLOR_ARCH, network.spec, training, __version__)
        write_atomically(options.output, encode_color_network(card, network))

    spec = ColorNetworkSpec(options.width, options.layers)
    train(spec, examples, options.steps, options.seed, report)


def make_examples(folder: Path, count: int, seed: int) -> Iterator[Example]:
    """Make the frames of `count` sequences of the pictures in a folder."""
    paths = find_images(folder)
    loaded: dict[Path, FloatArray] = {}
    for number in range(count):
        random = np.random.default_rng([seed, number])
        layers = [_Layer(_texture(paths, loaded, random), random)]
        cover = None
        if random.random() < COVERED:
            layers.append(_Layer(_texture(paths, loaded, random), random))
            cover = _Layer(draw_blob(random, DRAWN_PX), random, layers[1])
        frames = []
        for index in range(FRAMES):
            shown = layers[0].at(index)
            if cover is not None:
                shown = shown + cover.at(index)[..., None] * (layers[1].at(index) - shown)
            large = torch.from_numpy(shown.transpose(2, 0, 1).copy())
            frames.append(resize(large, SIDE_PX, SIDE_PX).clamp(0, 1))
        clean = [(frame * 255).round() / 255 for frame in frames]
        source = clean
        if random.random() < NOISY:
            sigma = random.uniform(0, MAX_NOISE) / 255
            source = [
                frame + torch.from_numpy(random.normal(0, sigma, frame.shape).astype(np.float32))
                for frame in clean
            ]
        decoded, quantizer = encode_and_decode(source, random)
        if quantizer is None:
            continue
        for one, other in list(zip(decoded, clean, strict=True))[-KEPT_FRAMES:]:
            yield Example(_levels(one), _levels(other), quantizer)


def encode_and_decode(
    frames: Sequence[torch.Tensor], random: np.random.Generator
) -> tuple[list[torch.Tensor], float | None]:
    """Send RGB (3, H, W) through an encoder drawn at random; also the mean quantizer as vsr reads
    it."""
    codec, settings = _draw_encoding(random)
    layout = "yuv444p" if codec == "libx264" and random.random() < FULL_COLOR else "yuv420p"
    is_centered = random.random() < CENTERED
    height, width = frames[0].shape[-2:]
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream(codec, rate=RATE, width=width, height=height, pix_fmt=layout)
        assert isinstance(stream, VideoStream)
        stream.options = dict(settings)
        stream.codec_context.thread_count = 1
        for rgb in frames:
            levels = _levels(rgb)
            if is_centered:
                array = levels.permute(1, 2, 0).contiguous().numpy()
                frame = av.VideoFrame.from_ndarray(array, format="rgb24").reformat(
                    format=layout, dst_colorspace=Colorspace.ITU709
                )
            else:
                channels = from_rgb(levels / 255, LAYOUTS[layout], MATRIX, full_range=False)
                frame = write_channels(channels, layout)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    file.seek(0)
    decoded, steps = [], []
    for frame, step in decoded_with_steps(file):
        channels = read_channels(frame, LAYOUTS[layout])
        decoded.append(to_rgb(channels, LAYOUTS[layout], MATRIX, full_range=False))
        steps.append(step)
    told = [step for step in steps if step is not None]
    return decoded, step_to_qp(fmean(told)) if told else None


def train(
    spec: ColorNetworkSpec,
    examples: Sequence[Example],
    steps: int,
    seed: int,
    report: Callable[[int, ColorNetwork], None],
) -> None:
    """Train a network on crops of the examples, and report the mean of its weights over the last
    steps now and then, and in the end."""
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    network = ColorNetwork(spec)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.998))
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE_OF_LEARNING)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate, steps=steps))
    for step in range(1, steps + 1):
        planes, targets, quantizers = _batch(examples, spec.halo, random)
        # Two to three times as fast where a processor multiplies bf16; weights stay whole.
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = network(planes, quantizers)
        error = found.float() - targets
        loss = ((error.square() + SOFTNESS**2).sqrt() - SOFTNESS).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
        if step % REPORT_EVERY == 0 or step == steps:
            assert isinstance(average.module, ColorNetwork)
            report(step, average.module)


def gain_db(network: ColorNetwork, judged: Sequence[Example]) -> float:
    """Mean gain in PSNR of the color differences of frames whose color errs at all."""
    halo, gains = network.spec.halo, []
    for example in judged:
        own, clean = (to_planes(each.float() / 255) for each in (example.decoded, example.clean))
        before = float((own - clean)[1:].square().mean())
        if before < MIN_MEAN_SQUARE:
            continue
        padded = F.pad(own[None], (halo,) * 4, mode="replicate")
        with torch.inference_mode():
            found = network(padded, torch.tensor([example.quantizer]))[0]
        gains.append(10 * math.log10(before / float((own[1:] + found - clean[1:]).square().mean())))
    return fmean(gains)


def _rate(step: int, steps: int) -> float:
    """Share of the rate of learning at a step: it rises quickly and falls as a cosine."""
    return min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _batch(
    examples: Sequence[Example], halo: int, random: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    inputs, targets, quantizers = [], [], []
    side = CROP_PX + 2 * halo
    for number in random.integers(len(examples), size=BATCH):
        example = examples[number]
        # Even places: the grid of color is that of the frame.
        top, left = (2 * int(random.integers(0, (SIDE_PX - side) // 2 + 1)) for _ in range(2))
        own, clean = (
            to_planes(each[:, top : top + side, left : left + side].float() / 255)
            for each in (example.decoded, example.clean)
        )
        if random.random() < GRAY:
            own[1:], clean[1:] = 0, 0
        inputs.append(own)
        targets.append((clean - own)[1:, halo:-halo, halo:-halo])
        quantizers.append(example.quantizer)
    return torch.stack(inputs), torch.stack(targets), torch.tensor(quantizers)


def _draw_encoding(random: np.random.Generator) -> tuple[str, dict[str, str]]:
    """Draw an encoder and its settings."""
    if random.random() < 0.8:
        preset = str(random.choice(["veryfast", "medium", "medium", "slow"]))
        crf = random.uniform(14, 38)
        settings = {"crf": f"{crf:.1f}", "preset": preset, "threads": "1"}
        return "libx264", settings | ENCODERS["libx264"].fixed
    code = str(int(random.integers(2, 15)))
    return "mpeg2video" if random.random() < 0.5 else "mpeg4", {"qmin": code, "qmax": code}


class _Layer:
    """A picture with its motion."""

    def __init__(
        self, texture: FloatArray, random: np.random.Generator, along: "_Layer | None" = None
    ) -> None:
        height, width = texture.shape[:2]
        self._texture = texture
        self._center = random.uniform(0.3, 0.7, 2) * (width, height)
        # Heavy tails: most films move little, some a lot.
        self._speed = np.clip(random.standard_t(3, 2) * 1.5, -12, 12)
        self._turn, self._zoom, self._angle = random.normal(0, [0.004, 0.004, 0.1])
        if along is not None:
            # A shape that moves with what it shows.
            self._center = np.array([width, height]) / 2
            self._speed, self._turn = along._speed, along._turn
            self._zoom, self._angle = along._zoom, along._angle

    def at(self, time: float) -> FloatArray:
        """Show it at a time in frames, twice as large as it is encoded."""
        side = 2 * SIDE_PX
        zoom, angle = math.exp(self._zoom * time), self._angle + self._turn * time
        cosine, sine = zoom * math.cos(angle), zoom * math.sin(angle)
        x, y = self._center + self._speed * time
        middle = (side - 1) / 2
        # From the place in the result to that in the picture.
        matrix = np.array(
            [
                [cosine, -sine, x - middle * (cosine - sine)],
                [sine, cosine, y - middle * (sine + cosine)],
            ]
        )
        shown: FloatArray = cv2.warpAffine(
            self._texture,
            matrix,
            (side, side),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        return shown.clip(0, 1)


def _texture(
    paths: Sequence[Path], loaded: dict[Path, FloatArray], random: np.random.Generator
) -> FloatArray:
    """Draw RGB (H, W, 3) in [0, 1] to look at: of a picture, or made here."""
    if random.random() < DRAWN:
        return _drawn(random)
    path = paths[int(random.integers(len(paths)))]
    if path not in loaded:
        picture = read_image(path)[0].permute(1, 2, 0).numpy()
        loaded[path] = _shrunk(picture, MAX_PICTURE_PX).astype(np.float16)
    picture = loaded[path].astype(np.float32)
    shorter = min(picture.shape[:2])
    # Some nearer, some farther: the same leaf is large or small in films.
    picture = _shrunk(picture, random.uniform(min(230, shorter), shorter))
    if random.random() < 0.5:
        picture = picture[:, ::-1]
    # Films are more or less colorful than photographs.
    gray = picture.mean(axis=2, keepdims=True)
    return np.ascontiguousarray(gray + random.uniform(0.5, 1.5) * (picture - gray)).clip(0, 1)


def _shrunk(picture: FloatArray, side: float) -> FloatArray:
    factor = side / min(picture.shape[:2])
    if factor >= 1:
        return picture
    shrunk: FloatArray = cv2.resize(
        picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA
    )
    return shrunk


def _drawn(random: np.random.Generator) -> FloatArray:
    """Draw shapes of one color each over each other, as in cartoons."""
    side = DRAWN_PX
    canvas = np.full((side, side, 3), random.uniform(0, 1, 3), np.float32)
    for _ in range(int(random.integers(20, 200))):
        radius = 4 / math.sqrt(random.uniform(0.003, 1))
        place = tuple(int(16 * each) for each in random.uniform(0, side, 2))
        axes = (int(16 * radius), int(16 * radius * random.uniform(0.2, 1)))
        shade = tuple(random.uniform(0, 1, 3))
        if random.random() < 0.5:
            angle = random.uniform(0, 360)
            cv2.ellipse(canvas, place, axes, angle, 0, 360, shade, -1, cv2.LINE_AA, 4)
        else:
            other = (place[0] + axes[0], place[1] + axes[1])
            cv2.rectangle(canvas, place, other, shade, -1, cv2.LINE_AA, 4)
    grain = cv2.GaussianBlur(random.normal(0, 1, (side, side)).astype(np.float32), (0, 0), 1.5)
    textured = canvas + random.uniform(0, 0.08) * grain[..., None]
    return np.asarray(textured.clip(0, 1), np.float32)


def _levels(picture: torch.Tensor) -> torch.Tensor:
    return (picture.clamp(0, 1) * 255).round().byte()


if __name__ == "__main__":
    main()
