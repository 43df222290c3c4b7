"""Choice of a precision: the fastest that the device offers with certainty.

Nothing is timed for it: the same command has to make the same bits each time.
"""

from functools import cache
from time import perf_counter

import torch

from vsr.engine.convolutions import ConvolutionStack
from vsr.engine.options import DTYPES, EngineOptions, name_of_dtype
from vsr.errors import ModelError, UsageError

AUTO = "auto"
BF16_UNITS = ("amx_bf16", "avx512_bf16", "bf16")
"""Parts of a processor that multiply bf16, as torch names them. Without any, bf16 is many times
slower than fp32."""
FAST_BF16_UNIT = "amx_bf16"
"""Part of a processor from which `auto` takes bf16: several times as fast as fp32. AVX-512 gains a
fourth, which is not worth the rounding."""
PROBE_WIDTH, PROBE_WIDTHS = 16, (3, 16, 16, 16, 16)
"""Channels that come out of and go into each layer, as in the default recipe's models."""
PROBE_SIZE, PROBE_ROUNDS = (32, 128), 3
"""Rows and columns; tries of each precision, the fastest of which counts."""
QUICK_PROBE_SIZE, QUICK_PROBE_MIN_SPEEDUP = (16, 32), 0.7
"""Rows and columns of a first look, and the speed below which it is the last: where bf16 is slow,
it is very slow."""


def choose_options(dtype: str, tile: int | None, device: torch.device) -> EngineOptions:
    """Resolve the user's `dtype` by `choose_dtype`, and pieces of at most `tile` x `tile`
    pixels."""
    return EngineOptions(choose_dtype(dtype, device), None if tile is None else tile**2)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Resolve `auto`, `fp32`, `bf16` or `fp16`; `auto` is the fastest that this device has.

    Raises `UsageError` for another word and `ModelError` for a precision that the device lacks.
    """
    if name != AUTO and name not in DTYPES:
        raise UsageError(f"unknown dtype {name}; expected {AUTO}, {', '.join(DTYPES)}.")
    if device.type != "cpu":
        return torch.float16 if name == AUTO else DTYPES[name]
    if name == "fp16":
        raise ModelError("a CPU does not compute in fp16. Use --dtype auto.")
    if name == "fp32":
        return torch.float32
    found = torch.cpu.get_capabilities()
    if name == AUTO:
        return torch.bfloat16 if found.get(FAST_BF16_UNIT) else torch.float32
    if any(found.get(unit) for unit in BF16_UNITS):
        return torch.bfloat16
    raise ModelError(
        f"this CPU has no instructions for bf16 ({', '.join(BF16_UNITS)}) and would be slower than "
        "in fp32. Use --dtype auto."
    )


def dtype_name(chosen: str, device: torch.device) -> str:
    """Name the precision that `choose_dtype` makes of `chosen`."""
    return name_of_dtype(choose_dtype(chosen, device))


@cache
def bf16_speedup() -> float:
    """Measure the speed of bf16 over that of fp32 on this CPU, in some milliseconds."""
    # Constants do: speed depends on values only where they become denormal, and these stay near 1.
    layers = [
        (torch.full((PROBE_WIDTH, into, 3, 3), 0.01), torch.zeros(PROBE_WIDTH))
        for into in PROBE_WIDTHS
    ]
    cpu = torch.device("cpu")
    fp32, bf16 = (
        ConvolutionStack(layers, 0.2, cpu, dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    small, picture = (torch.full((1, 3, *size), 0.5) for size in (QUICK_PROBE_SIZE, PROBE_SIZE))
    # Where the processor lacks instructions for bf16, the larger picture would take long.
    glimpse = _seconds(fp32, small) / _seconds(bf16, small)
    return (
        glimpse
        if glimpse < QUICK_PROBE_MIN_SPEEDUP
        else _seconds(fp32, picture) / _seconds(bf16, picture)
    )


def _seconds(stack: ConvolutionStack, picture: torch.Tensor) -> float:
    """Time the fastest of some tries."""
    taken = []
    for _ in range(PROBE_ROUNDS):
        start = perf_counter()
        stack(picture)
        taken.append(perf_counter() - start)
    return min(taken)
