"""A folder of pictures to learn from: those that serve, and a word on the rest."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from vsr.errors import InputError
from vsr.image.resample import resize
from vsr.train.crops import draw_placement, integer_sampler
from vsr.video.read.integrity import is_complete_jpeg
from vsr.video.reader import open_clip

DATASET_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jp2"}
)
MAX_CACHE_BYTES = 4 * 2**30


@dataclass(frozen=True, eq=False)
class ImagePair:
    """A picture and its low resolution, both uint8 (3, H, W)."""

    high: torch.Tensor
    low: torch.Tensor


def find_images(folder: Path) -> list[Path]:
    """Pictures of a folder and of those in it, by name. Raises `InputError` where there is none."""
    if not folder.is_dir():
        raise InputError(
            f"there is no folder of pictures at {folder}; expected one with "
            f"{', '.join(sorted(DATASET_SUFFIXES))}."
        )
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in DATASET_SUFFIXES and path.is_file()
    )
    if not found:
        raise InputError(
            f"{folder} holds no picture; expected files such as "
            f"{', '.join(sorted(DATASET_SUFFIXES))}."
        )
    return found


def usable_images(
    folders: Sequence[Path], min_px: int, notify: Callable[[str], None]
) -> list[Path]:
    """Choose the pictures of folders that can be read and are `min_px` or more a side; each odd one
    gets a line.

    Raises `InputError` where none is left.
    """
    usable = []
    for path in (path for folder in folders for path in find_images(folder)):
        try:
            pixels, remarks = read_image(path)
        except InputError as error:
            notify(f"left out: {error}")
            continue
        height, width = pixels.shape[-2:]
        if min(height, width) < min_px:
            notify(f"left out: {path} is {width}x{height}, and crops are {min_px} pixels a side")
            continue
        for remark in remarks:
            notify(f"{path}: {remark}")
        usable.append(path)
    if not usable:
        raise InputError(
            f"no picture in {', '.join(map(str, folders))} can be used; expected {min_px} pixels a "
            "side or more."
        )
    return usable


def read_image(path: Path) -> tuple[torch.Tensor, list[str]]:
    """Read a picture as RGB (3, H, W) in [0, 1], with remarks on what is odd about it. Raises
    `InputError` for one that cannot be read."""
    with open_clip(path) as reader:
        frames = list(islice(reader.frames(), 2))
        if not frames or reader.damage:
            reason = str(reader.damage[0]) if reader.damage else "it has no picture"
            raise InputError(f"{path} cannot be read whole: {reason}")
        layout, codec = reader.info.pixel_format, reader.info.codec
    # The decoder fills what is missing with gray and says nothing.
    if codec == "mjpeg" and not is_complete_jpeg(path.read_bytes()):
        raise InputError(f"{path} cannot be read whole: it ends within its picture")
    remarks = []
    if len(frames) > 1:
        remarks.append("animated; its first picture is used")
    if layout.startswith(("gray", "ya", "mono")):
        remarks.append("grayscale; used as RGB with three equal channels")
    if codec == "mjpeg" and layout.startswith(("gbrap", "yuva")):
        remarks.append("CMYK; converted to RGB without its color profile")
    if any(depth in layout for depth in ("48", "64", "16", "12", "10")):
        remarks.append("more than 8 bit; rounded to 8 bit")
    return frames[0].pixels, remarks


def make_pair(pixels: torch.Tensor, scale: int) -> ImagePair:
    """Pair a picture (3, H, W) in [0, 1], cut to a multiple of the scale, with its low resolution,
    both rounded to 8 bit."""
    height, width = (side - side % scale for side in pixels.shape[-2:])
    # In 8 bits: a quarter of the memory, and what files hold anyway.
    high = _to_8_bit(pixels[:, :height, :width])
    return ImagePair(high, _to_8_bit(resize(high.float() / 255, height // scale, width // scale)))


def _to_8_bit(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8)


class ImageDataset:
    """Examples by number; those used last are kept in memory, up to a limit."""

    def __init__(self, paths: Sequence[Path], scale: int, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self.paths = paths
        self._scale, self._free_bytes = scale, max_bytes
        self._kept: OrderedDict[int, ImagePair] = OrderedDict()

    def __getitem__(self, number: int) -> ImagePair:
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        # Decoded when first needed: a large folder need not fit into memory.
        example = make_pair(read_image(self.paths[number])[0], self._scale)
        self._kept[number] = example
        self._free_bytes -= example.high.numel() + example.low.numel()
        # The one just read stays, however large it is.
        while self._free_bytes < 0 and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._free_bytes += dropped.high.numel() + dropped.low.numel()
        return example


class BatchSampler:
    """Crops, flipped and turned, in batches. A batch follows from the seed and its step alone, so
    that a training that is taken up again sees what it would have seen."""

    def __init__(
        self, store: ImageDataset, scale: int, crop_px: int, batch: int, seed: int
    ) -> None:
        self._store, self._scale, self._batch, self._seed = store, scale, batch, seed
        self._side = crop_px // scale

    def batch_at(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Low and high crops of a step, float (N, 3, ., .) in [0, 1]."""
        # Steps of one seed meet those of the next only after a million.
        random = torch.Generator().manual_seed(1_000_003 * self._seed + step)
        crops = [self._crop(random) for _ in range(self._batch)]
        low, high = (torch.stack(each).float() / 255 for each in zip(*crops, strict=True))
        return low, high

    def _crop(self, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        draw = integer_sampler(random)
        example = self._store[draw(len(self._store.paths))]
        place = draw_placement(example.low.shape[-2:], self._side, draw)
        return place.cut(example.low), place.enlarged(self._scale).cut(example.high)
