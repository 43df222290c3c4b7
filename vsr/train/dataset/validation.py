"""Validation of a network on pictures that it was not trained on, and the log of a training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vsr.errors import UsageError
from vsr.image.resample import resize
from vsr.train.dataset.dataset import ImageDataset
from vsr.upscale.networks.network import STUDIO_RANGE, UpscalingNetwork, apply_network

LOGGED_IMAGES = 4


@dataclass(frozen=True)
class ValidationResult:
    """One measurement on the validation pictures."""

    step: int
    psnr_y: float
    """In dB, on BT.601 luma, as many pixels of border off as the scale; mean over the pictures."""


def validate(
    upscaler: UpscalingNetwork, store: ImageDataset, device: torch.device
) -> tuple[float, list[torch.Tensor]]:
    """Measure mean PSNR-Y over a store, on the network's device; also the first pictures as
    (bicubic | result | truth), (3, H, 3 W)."""
    figures, shown = [], []
    for number in range(len(store.paths)):
        example = store[number]
        low, truth = (picture.to(device).float() / 255 for picture in (example.low, example.high))
        result = apply_network(upscaler, low, *truth.shape[-2:])
        figures.append(psnr_y(result, truth, upscaler.scale))
        if number < LOGGED_IMAGES:
            shown.append(
                torch.cat([resize(low, *truth.shape[-2:]).clamp(0, 1), result, truth], dim=-1)
            )
    return sum(figures) / len(figures), shown


def psnr_y(result: torch.Tensor, truth: torch.Tensor, border_px: int) -> float:
    """PSNR in dB of BT.601 luma of 8-bit colors, `border_px` off each side; at most 100."""
    inner = (..., slice(border_px, -border_px), slice(border_px, -border_px))
    lumas = [
        STUDIO_RANGE.from_rgb((picture.clamp(0, 1) * 255).round() / 255)[inner]
        for picture in (result, truth)
    ]
    error = float((lumas[0] - lumas[1]).square().mean())
    return min(100.0, -10 * torch.log10(torch.tensor(error + 1e-30)).item())


class TensorBoardLogger:
    """Curves and pictures for TensorBoard."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Raises `UsageError` where TensorBoard is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError(
                "--tensorboard needs the package tensorboard: pip install tensorboard"
            ) from None
        # What a stopped training wrote after the state that is taken up would appear twice.
        self._writer: Any = SummaryWriter(folder, purge_step=first_step)

    def values(self, step: int, values: Mapping[str, float]) -> None:
        """Write the terms of a step."""
        for name, value in values.items():
            self._writer.add_scalar(f"loss/{name}", value, step)

    def log_validation(
        self, validation: ValidationResult, pictures: Sequence[torch.Tensor]
    ) -> None:
        """Show the validation pictures: bicubic, result and truth side by side."""
        self._writer.add_scalar("validation/psnr_y", validation.psnr_y, validation.step)
        for number, picture in enumerate(pictures):
            self._writer.add_image(f"validation/{number}", picture, validation.step)

    def close(self) -> None:
        """Write what is still waiting."""
        self._writer.close()
