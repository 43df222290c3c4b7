"""Makes short sequences that move as films do out of still pictures, with the clean frames that
they should become."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from vsr.image.motion import FloatArray
from vsr.image.resample import resize
from vsr.records import option
from vsr.train.dataset.dataset import read_image
from vsr.train.dataset.degradations import DegradationOptions, degrade
from vsr.upscale.shot_stages import to_luma
from vsr.video.step import Degradation

SUPERSAMPLING = 2
"""Pictures are moved at this many times the size of the clean frames, which are then reduced: so
they are as sharp as a camera's."""
MAX_PICTURE_PX = 1100
"""Limit of the shorter side: photographs are larger, and softer at their own size than films
are."""
MIN_PICTURE_PX = 256
MAX_PICTURES_KEPT = 256
BLOB_PX = 512
"""Side of the shape of a second layer."""


@dataclass(frozen=True)
class SequenceOptions:
    """Content of the sequences; shares are of all sequences, 0 to 1."""

    frames: int = option(7, "Frames of a sequence.", at_least=5, at_most=64)
    side_px: int = option(288, "Side of its clean frames.", at_least=64, at_most=1024)
    drawn: float = option(0.25, "Share drawn, not photographed.", at_least=0, at_most=1)
    covered: float = option(0.4, "Share with a second layer in front.", at_least=0, at_most=1)
    text: float = option(0.2, "Share with text.", at_least=0, at_most=1)
    swaying: float = option(0.35, "Share that bends as it moves.", at_least=0, at_most=1)
    smeared: float = option(0.1, "Share that the motion blurs.", at_least=0, at_most=1)
    lit: float = option(0.1, "Share whose light changes.", at_least=0, at_most=1)
    soft: float = option(0.15, "Share out of focus a little.", at_least=0, at_most=1)
    noisy: float = option(0.3, "Share of inputs with noise.", at_least=0, at_most=1)
    max_noise: float = option(1.5, "Its largest standard deviation in gray levels.", at_least=0)
    speed_px: float = option(3.0, "Standard deviation of the motion a frame.", at_least=0)


@dataclass(frozen=True, eq=False)
class MotionSequence:
    """Luma of consecutive frames."""

    clean: list[torch.Tensor]
    """(1, H, W) in [0, 1]."""
    low: list[torch.Tensor]
    """Those frames reduced four times, (1, H / 4, W / 4), noisy perhaps, of 8 bits; degraded where
    that was asked for."""
    degradation: Degradation = Degradation()
    """Estimates of it, as a run would make them."""


class SequenceMaker:
    """Makes sequences by number: each follows from the seed and its number alone."""

    def __init__(
        self,
        paths: Sequence[Path],
        options: SequenceOptions,
        seed: int,
        degradations: DegradationOptions | None = None,
    ) -> None:
        """Without `degradations` all inputs are clean, but for the little noise of `options`."""
        self._paths, self._options, self._seed = paths, options, seed
        self._degradations = degradations
        self._pictures: dict[Path, FloatArray] = {}

    def make(self, number: int) -> MotionSequence:
        """Make the sequence of that number. Raises `InputError` where a picture is not readable."""
        options = self._options
        # From the pair: a training that goes on need not make the sequences before once more.
        random = np.random.default_rng([self._seed, number])
        layers = [_Layer(self._texture(random), None, random, options)]
        if random.random() < options.covered:
            layers.append(
                _Layer(self._texture(random), draw_blob(random, BLOB_PX), random, options)
            )
        softness = random.uniform(0.4, 0.8) if random.random() < options.soft else 0.0
        shutter = random.uniform(0.3, 0.8) if random.random() < options.smeared else 0.0
        light = random.normal(0, 0.02) if random.random() < options.lit else 0.0
        noise = random.uniform(0.2, options.max_noise) if random.random() < options.noisy else 0.0
        clean, low = [], []
        # Whole in low resolution, whatever the options ask for; even there, as encoders want it.
        grid = 4 if self._degradations is None else 8
        side = options.side_px - options.side_px % grid
        for frame in range(options.frames):
            # Counted from the middle: motion then leads less far from the layers' centers.
            time = frame - (options.frames - 1) / 2
            large = _expose(layers, time, shutter, SUPERSAMPLING * side) * (1 + light * time)
            if softness:
                large = cv2.GaussianBlur(large, (0, 0), SUPERSAMPLING * softness)
            truth = resize(torch.from_numpy(large)[None], side, side).clamp_(0, 1)
            reduced = resize(truth, side // 4, side // 4)
            if noise:
                grain = random.normal(0, noise / 255, reduced.shape).astype(np.float32)
                reduced = reduced + torch.from_numpy(grain)
            clean.append(truth)
            # Decoded frames have 8 bits, so rounding is part of what the networks must undo.
            low.append((reduced.clamp(0, 1) * 255).round() / 255)
        if self._degradations is None:
            return MotionSequence(clean, low)
        return MotionSequence(clean, *degrade(low, self._degradations, random))

    def _texture(self, random: np.random.Generator) -> FloatArray:
        """Draw luma (H, W) in [0, 1] to look at: of a picture, or made here."""
        if not self._paths or random.random() < self._options.drawn:
            picture = _draw_picture(random)
        else:
            picture = self._load(self._paths[int(random.integers(len(self._paths)))])
            shorter = min(picture.shape)
            # Some nearer, some farther: the same leaf is large or small in films.
            wanted = random.uniform(min(420, shorter), min(shorter, MAX_PICTURE_PX))
            if wanted < shorter:
                picture = cv2.resize(
                    picture,
                    None,
                    fx=wanted / shorter,
                    fy=wanted / shorter,
                    interpolation=cv2.INTER_AREA,
                )
        picture = np.ascontiguousarray(np.rot90(picture, int(random.integers(0, 2))))
        if random.random() < 0.5:
            picture = np.ascontiguousarray(picture[:, ::-1])
        if random.random() < self._options.text:
            picture = _with_text(picture, random)
        return picture

    def _load(self, path: Path) -> FloatArray:
        if path not in self._pictures:
            luma = to_luma(read_image(path)[0])[0].numpy()
            factor = MAX_PICTURE_PX / min(luma.shape)
            if factor < 1:
                luma = cv2.resize(luma, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            if len(self._pictures) >= MAX_PICTURES_KEPT:
                self._pictures.pop(next(iter(self._pictures)))
            # In half precision: a large folder need not fill the memory.
            self._pictures[path] = luma.astype(np.float16)
        return self._pictures[path].astype(np.float32)


class _Layer:
    """A picture with its motion, and where it covers what lies behind."""

    def __init__(
        self,
        texture: FloatArray,
        shape: FloatArray | None,
        random: np.random.Generator,
        options: SequenceOptions,
    ) -> None:
        self._texture, self._shape = texture, shape
        height, width = texture.shape
        self._center = random.uniform(0.3, 0.7, 2) * (width, height)
        # Heavy tails: most films move little, some a lot.
        self._speed = random.standard_t(3, 2) * options.speed_px * SUPERSAMPLING / 2
        self._speed = np.clip(self._speed, -24, 24)
        self._acceleration = random.normal(0, 0.15, 2) * SUPERSAMPLING
        self._turn = random.normal(0, 0.004)
        self._zoom = random.normal(0, 0.004)
        self._angle = random.normal(0, 0.1)
        self._sway = random.uniform(0.5, 2.5) if random.random() < options.swaying else 0.0
        self._bend = random.normal(0, 1, (2, 2, 6, 6)).astype(np.float32)
        self._rhythm = random.uniform(0.3, 1.2)

    def at(self, time: float, side: int) -> tuple[FloatArray, FloatArray | None]:
        """Show (side, side) at a time in frames, and its coverage, where it has a shape."""
        rows, columns = np.mgrid[0:side, 0:side].astype(np.float32) - (side - 1) / 2
        if self._sway:
            # A field that bends to and fro, smooth in space and time.
            phase = self._rhythm * time
            field = np.float32(np.cos(phase)) * self._bend[0]
            field += np.float32(np.sin(phase)) * self._bend[1]
            down, right = (
                cv2.resize(each, (side, side), interpolation=cv2.INTER_CUBIC) for each in field
            )
            rows, columns = rows + self._sway * down, columns + self._sway * right
        # The exponential grows by the same factor from frame to frame, and is never 0.
        angle, zoom = self._angle + self._turn * time, float(np.exp(self._zoom * time))
        cosine, sine = np.float32(np.cos(angle) * zoom), np.float32(np.sin(angle) * zoom)
        moved = self._speed * time + self._acceleration * time**2 / 2
        across = cosine * columns - sine * rows + np.float32(moved[0])
        down = sine * columns + cosine * rows + np.float32(moved[1])
        x, y = (np.float32(center) for center in self._center)
        shown = _sample(self._texture, across + x, down + y)
        if self._shape is None:
            return shown, None
        scale = np.float32(self._shape.shape[0] / side)
        middle = np.float32(self._shape.shape[0] / 2)
        cover = cv2.remap(
            self._shape,
            across * scale + middle,
            down * scale + middle,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
        )
        return shown, cover


def _sample(picture: FloatArray, across: FloatArray, down: FloatArray) -> FloatArray:
    # Mirrored beyond the rim: a black border that moves along is nothing that films show.
    sampled: FloatArray = cv2.remap(
        picture, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return sampled


def _expose(layers: Sequence[_Layer], time: float, shutter: float, side: int) -> FloatArray:
    """Show the layers at a time; with the shutter open for some of it, the mean of three."""
    moments = [time] if not shutter else [time - shutter / 2, time, time + shutter / 2]
    pictures = []
    for moment in moments:
        picture, _ = layers[0].at(moment, side)
        for layer in layers[1:]:
            front, cover = layer.at(moment, side)
            assert cover is not None
            picture = picture + cover * (front - picture)
        pictures.append(picture)
    return np.clip(np.mean(pictures, axis=0, dtype=np.float32), 0, 1)


def draw_blob(random: np.random.Generator, side: int) -> FloatArray:
    """Draw a shape of sharp edges, (side, side) in [0, 1]: smooth noise above its threshold."""
    size = int(random.integers(3, 8))
    noise = cv2.resize(
        random.normal(0, 1, (size, size)).astype(np.float32),
        (side, side),
        interpolation=cv2.INTER_CUBIC,
    )
    # By the quantile a shape covers 20 to 60 % of its square, whatever the noise.
    level = np.quantile(noise, random.uniform(0.4, 0.8))
    slope = np.abs(np.diff(noise, axis=0)).mean() + 1e-6
    # About one pixel from outside to inside.
    shape: FloatArray = np.clip((noise - level) / slope + 0.5, 0, 1).astype(np.float32)
    return shape


def _draw_picture(random: np.random.Generator) -> FloatArray:
    """Draw one of the project's own pictures: leaves that cover each other, lattices, or lines."""
    kind = random.random()
    if kind < 0.6:
        return _dead_leaves(random)
    if kind < 0.8:
        return _lattice(random)
    return _line_art(random)


def _dead_leaves(random: np.random.Generator) -> FloatArray:
    """Draw shapes of all sizes over each other, with the statistics of natural pictures (Lee,
    Mumford and Huang, 2001)."""
    side = 800
    canvas = np.full((side, side), random.uniform(0.1, 0.9), np.float32)
    smallest = random.uniform(3, 12)
    largest = random.uniform(40, 200)
    is_leaf, contrast = random.random() < 0.6, random.uniform(0.1, 0.35)
    middle = random.uniform(0.3, 0.6)
    # Sizes by a power law of exponent 3: as much area of each size.
    draws = random.random(1600)
    # The law's inverted distribution function turns uniform draws into radii.
    radii = 1 / np.sqrt(draws / smallest**2 + (1 - draws) / largest**2)
    # Half of them largest first, so that small shapes are not buried.
    for radius in np.sort(radii)[::-1] if random.random() < 0.5 else radii:
        x, y = random.uniform(-20, side + 20, 2)
        shade = float(np.clip(random.normal(middle, contrast), 0, 1))
        aspect = random.uniform(0.25, 0.7) if is_leaf else random.uniform(0.6, 1)
        axes = (max(1, int(radius)), max(1, int(radius * aspect)))
        # In sixteenths of a pixel, by the 4 fractional bits that `ellipse` is told of.
        place, angle = (int(x * 16), int(y * 16)), random.uniform(0, 360)
        scaled = (axes[0] * 16, axes[1] * 16)
        cv2.ellipse(canvas, place, scaled, angle, 0, 360, shade, -1, cv2.LINE_AA, 4)
        if is_leaf and radius > 8:
            # A vein, or the light on one half.
            half = float(np.clip(shade + random.normal(0, 0.08), 0, 1))
            cv2.ellipse(canvas, place, scaled, angle, 0, 180, half, -1, cv2.LINE_AA, 4)
    grain = cv2.GaussianBlur(
        random.normal(0, 1, (side, side)).astype(np.float32), (0, 0), random.uniform(0.8, 2.5)
    )
    # Surfaces are never flat.
    textured: FloatArray = np.clip(canvas + random.uniform(0, 0.08) * grain, 0, 1)
    return textured.astype(np.float32)


def _lattice(random: np.random.Generator) -> FloatArray:
    """Draw a wall of windows, bricks or tiles."""
    side = 800
    canvas = np.full((side, side), random.uniform(0.2, 0.9), np.float32)
    canvas += 0.1 * cv2.resize(random.normal(0, 1, (8, 8)).astype(np.float32), (side, side))
    pitch = random.uniform(10, 60, 2)
    opening = pitch * random.uniform(0.4, 0.9, 2)
    shift = random.choice([0.0, 0.5])
    dark = random.uniform(0, 0.8)
    for number, top in enumerate(np.arange(0, side, pitch[0])):
        for left in np.arange(-pitch[1], side, pitch[1]) + shift * (number % 2) * pitch[1]:
            shade = float(np.clip(dark + random.normal(0, 0.08), 0, 1))
            corner = (int(left * 16), int(top * 16))
            opposite = (int((left + opening[1]) * 16), int((top + opening[0]) * 16))
            cv2.rectangle(canvas, corner, opposite, shade, -1, cv2.LINE_AA, 4)
    clipped: FloatArray = np.clip(canvas, 0, 1).astype(np.float32)
    return clipped


def _line_art(random: np.random.Generator) -> FloatArray:
    """Draw strokes of many widths on paper, or light on dark."""
    side = 800
    paper = random.uniform(0.7, 1.0) if random.random() < 0.7 else random.uniform(0, 0.3)
    canvas = np.full((side, side), paper, np.float32)
    for _ in range(int(random.integers(20, 90))):
        ink = float(np.clip(1 - paper + random.normal(0, 0.15), 0, 1))
        start, steps = random.uniform(0, side, 2), random.normal(0, 1, (24, 2))
        # A random walk of directions: curves without corners.
        path = start + np.cumsum(np.cumsum(steps, axis=0) * random.uniform(0.5, 5), axis=0)
        points = np.rint(path * 16).astype(np.int32).reshape(-1, 1, 2)
        is_closed = bool(random.random() < 0.2)
        cv2.polylines(canvas, [points], is_closed, ink, int(random.integers(1, 7)), cv2.LINE_AA, 4)
    return canvas


def _with_text(picture: FloatArray, random: np.random.Generator) -> FloatArray:
    """Write some lines of random letters over a picture."""
    # OpenCV writes on pictures of 8 bits alone.
    written = np.rint(picture * 255).clip(0, 255).astype(np.uint8)
    height, width = picture.shape
    letters = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:-/ ")
    faces = (
        cv2.FONT_HERSHEY_SIMPLEX,
        cv2.FONT_HERSHEY_DUPLEX,
        cv2.FONT_HERSHEY_COMPLEX,
        cv2.FONT_HERSHEY_TRIPLEX,
    )
    for _ in range(int(random.integers(1, 4))):
        size, face = random.uniform(0.5, 3.0), faces[random.integers(len(faces))]
        ink = random.uniform(0, 60) if random.random() < 0.5 else random.uniform(190, 255)
        thickness = max(1, round(size * random.uniform(0.8, 2.5)))
        left, top = random.uniform(0, 0.6) * width, random.uniform(0.05, 0.7) * height
        for line in range(int(random.integers(1, 7))):
            words = "".join(random.choice(letters, int(random.integers(4, 30))))
            place = (int(left), int(top + 34 * size * line))
            cv2.putText(written, words, place, face, size, ink, thickness, cv2.LINE_AA)
    return written.astype(np.float32) / np.float32(255)
