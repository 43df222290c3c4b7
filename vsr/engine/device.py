"""Which device a run uses."""

import torch

from vsr.errors import ModelError, UsageError


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:N` -> a device that works here; `auto` takes the first GPU, else the CPU.

    Raises `UsageError` for another word and `ModelError` for a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind != "cuda" or (number and not number.isdigit()):
        raise UsageError(f"unknown device {name}; expected auto, cpu, cuda or cuda:N.")
    index = int(number or 0)
    if index >= torch.cuda.device_count():
        raise ModelError(f"{name} was asked for, but torch sees {torch.cuda.device_count()} GPUs. Use --device auto.")
    return torch.device("cuda", index)
