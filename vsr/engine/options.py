"""Device, precision and tile size of networks that run."""

from dataclasses import dataclass

import torch

from vsr.errors import ModelError, UsageError


def choose_device(name: str) -> torch.device:
    """Find the device of `auto`, `cpu`, `cuda` or `cuda:N`; `auto` takes the first GPU, else the
    CPU.

    TF32 is switched off on a GPU. Raises `UsageError` for another word and `ModelError` for a GPU
    that is not there.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    # Otherwise cuDNN rounds its factors to the 10 bits of TF32.
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        return torch.device("cuda", 0)
    kind, _, number = name.partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise UsageError(f"unknown device {name}; expected auto, cpu, cuda or cuda:N.")
    index = int(number or 0)
    if index >= torch.cuda.device_count():
        raise ModelError(
            f"{name} was asked for, but torch sees {torch.cuda.device_count()} GPUs. Use --device "
            "auto."
        )
    return torch.device("cuda", index)


DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class EngineOptions:
    """Precision and size of pieces of networks that run."""

    dtype: torch.dtype = torch.float32
    """Precision of weights and features; sums over models and pictures are float32."""
    max_strip_px: int | None = None
    """Largest number of pixels of a piece; None: what suits the device."""


def name_of_dtype(dtype: torch.dtype) -> str:
    """Name a precision in the user's word."""
    return next(name for name, known in DTYPES.items() if known == dtype)
