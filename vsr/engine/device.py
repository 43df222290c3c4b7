"""Which device a run uses."""

import torch

from vsr.errors import ModelError, UsageError


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` -> a device that works here; `auto` takes the first GPU, else the CPU.

    A GPU is told to keep all digits of fp32. Raises `UsageError` for another word and `ModelError` for a GPU that is
    not there.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    # cuDNN would else round what it multiplies to the 10 bits of TF32.
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        return torch.device("cuda", 0)
    kind, _, number = name.partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise UsageError(f"unknown device {name}; expected auto, cpu, cuda or cuda:N.")
    index = int(number or 0)
    if index >= torch.cuda.device_count():
        raise ModelError(f"{name} was asked for, but torch sees {torch.cuda.device_count()} GPUs. Use --device auto.")
    return torch.device("cuda", index)
