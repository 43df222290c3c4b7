"""3x3 layers of the networks by what a CPU could run them with, one thread: 16 channels of one
model, a strip of 90 rows of 1280; 40 and 64 of the shot model, 90 rows of 640 and of 320.

python -m benchmarks.layers
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks.measure import print_table
from vsr.cli import keep_freed_memory
from vsr.engine.convolutions import VECTOR_WIDTH

WIDTH, ROWS, COLUMNS = 16, 90, 1280
TRIES = 15


def main() -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    # Asking makes it ready as well.
    assert torch.backends.nnpack.is_available(), "this build of torch has no NNPACK"
    with torch.inference_mode():
        rows = []
        for width, columns in ((40, 640), (64, 320)):
            features, weight = torch.randn(1, width, ROWS + 2, columns + 2), square(width)
            near_too = features.to(memory_format=torch.channels_last)
            for name, way in {
                "oneDNN": convolution(near_too, weight),
                "NNPACK's Winograd": winograd(features, weight),
            }.items():
                taken = nanoseconds(way, ROWS * columns)
                rows.append([f"{width} to {width}, fp32, {name}", f"{taken:.1f}"])
        features = torch.randn(1, WIDTH, ROWS + 2, COLUMNS + 2)
        inner, last = square(WIDTH), torch.randn(3, WIDTH, 3, 3) / 12
        pairs = torch.randn(VECTOR_WIDTH, WIDTH, 3, 4) / 12
        near = features.to(memory_format=torch.channels_last)
        ways = {
            "16 to 16, fp32, oneDNN": convolution(near, inner),
            "16 to 16, fp32, NNPACK's Winograd": winograd(features, inner),
            "16 to 16, int8, fbgemm": int8_convolution(near, inner),
            "16 to 3, fp32, oneDNN": convolution(near, last),
            "16 to 3, two pixels at once": convolution(near, pairs, (1, 2)),
        }
        for name, way in ways.items():
            rows.append([name, f"{nanoseconds(way, ROWS * COLUMNS):.1f}"])
    print_table("Processor time, the fastest of some tries", ["layer", "ns a pixel"], rows)


def square(width: int) -> torch.Tensor:
    return torch.randn(width, width, 3, 3) / width


def winograd(features: torch.Tensor, weight: torch.Tensor) -> Callable[[], object]:
    bias = torch.zeros(len(weight))
    return lambda: torch._nnpack_spatial_convolution(features, weight, bias, [0, 0], [1, 1])


def convolution(features: torch.Tensor, weight: torch.Tensor, stride=1) -> Callable[[], object]:
    held, bias = weight.to(memory_format=torch.channels_last), torch.zeros(len(weight))
    return lambda: F.conv2d(features, held, bias, stride)


def int8_convolution(features: torch.Tensor, weight: torch.Tensor) -> Callable[[], object]:
    torch.backends.quantized.engine = "fbgemm"
    levels = torch.quantize_per_tensor(features, 0.04, 64, torch.quint8)
    weights = torch.quantize_per_tensor(weight, 0.004, 0, torch.qint8)
    packed = torch.ops.quantized.conv2d_prepack(
        weights, torch.zeros(len(weight)), [1, 1], [0, 0], [1, 1], 1
    )
    return lambda: torch.ops.quantized.conv2d(levels, packed, 0.1, 64)


def nanoseconds(way: Callable[[], object], pixels: int) -> float:
    taken = []
    for _ in range(TRIES):
        start = time.process_time()
        way()
        taken.append(time.process_time() - start)
    return 1e9 * min(taken) / pixels


if __name__ == "__main__":
    main()
