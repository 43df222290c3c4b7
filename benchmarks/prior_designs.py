"""Designs of the two networks of the prior, each trained for the same processor time on the same
sequences, then compared on sequences of pictures that none has seen.

    python -m benchmarks.prior_designs PICTURES
    python -m benchmarks.prior_designs PICTURES --stages 2 --designs shipped residual

`PICTURES` is what `tools.gather_pictures` fills: a folder `training` and a folder `validation`. The
second network learns from what the shipped first one, fused, makes. A cost is the processor time of
one thread for the convolutions of a frame from 320x180, at the size of the stage.
"""

import copy
import math
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.measure import print_table
from vsr.engine.convolutions import ConvolutionStack
from vsr.models.networks.shot_network import DIFFERENCE_GAIN, LEAK
from vsr.models.prior import load_shipped_prior
from vsr.progress import ignore
from vsr.train.crops import draw_placement, integer_sampler, without_halo
from vsr.train.dataset.dataset import usable_images
from vsr.train.dataset.prior import PriorOptions, halved
from vsr.train.dataset.sequences import MIN_PICTURE_PX, SequenceMaker
from vsr.train.methods.shot_network import Example, contrast_loss, enlarge_fused, windows
from vsr.train.optimizer import cosine_decay, warm_decay

MAX_REACH = 3
HALO = 28
"""A block more than the design that looks furthest needs."""
CROP_PX, BATCH, RATE, AVERAGE_DECAY = 64, 4, 2e-3, 0.998
GRID = 4
"""Crops begin at multiples of it, for the blocks of all designs."""
FRAME = (720, 1280)
STRIP_ROWS = 180


@dataclass(frozen=True)
class Design:
    """Shape of a network."""

    width: int
    layers: int
    block: int = 2
    """Side of the block of pixels that becomes channels."""
    is_residual: bool = False
    """Whether two layers and two add up to what goes into them."""
    reach: int = 2
    """Neighbors on each side."""


DESIGNS: dict[int, dict[str, Design]] = {
    1: {
        "shipped": Design(64, 6),
        "residual": Design(64, 6, is_residual=True),
        "deeper, residual": Design(48, 8, is_residual=True),
        "coarser grid": Design(128, 6, block=4),
        "one neighbor": Design(64, 6, reach=1),
        "three neighbors": Design(64, 6, reach=3),
    },
    2: {
        "shipped": Design(40, 5),
        "residual": Design(36, 6, is_residual=True),
        "coarser grid": Design(64, 6, block=4),
        "one neighbor": Design(40, 5, reach=1),
        "three neighbors": Design(40, 5, reach=3),
        "wider": Design(64, 5),
    },
}
"""By stage."""


class DesignedNetwork(nn.Module):
    """`ShotNetwork` with the choices of a design."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.design, self.halo = design, design.block * design.layers
        block = design.block**2
        inputs = block * (1 + 2 * design.reach)
        widths = [inputs, *[design.width] * (design.layers - 1), block]
        self.body = nn.ModuleList(nn.Conv2d(into, out, 3) for into, out in pairwise(widths))
        for layer in self.body:
            nn.init.kaiming_normal_(layer.weight, a=LEAK)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.body[-1].weight.mul_(0.1)
            # Sums of branches would grow from pair to pair.
            for layer in self.body[2:-1:2] if design.is_residual else ():
                layer.weight.mul_(0.3)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """(N, planes, H + 2 HALO, W + 2 HALO) -> luma (N, 1, H, W)."""
        near = without_halo(planes[:, : 1 + 2 * self.design.reach], HALO - self.halo)
        scaled = torch.cat([near[:, :1], DIFFERENCE_GAIN * near[:, 1:]], dim=1)
        features = F.pixel_unshuffle(scaled, self.design.block)
        features = features.contiguous(memory_format=torch.channels_last)
        first, *hidden, last = self.body
        features = F.leaky_relu(first(features), LEAK)
        if self.design.is_residual:
            for one, other in zip(hidden[::2], hidden[1::2], strict=True):
                change = other(F.leaky_relu(one(features), LEAK))
                features = F.leaky_relu(change + features[:, :, 2:-2, 2:-2], LEAK)
        else:
            for layer in hidden:
                features = F.leaky_relu(layer(features), LEAK)
        detail = F.pixel_shuffle(last(features), self.design.block) / DIFFERENCE_GAIN
        return without_halo(planes[:, :1], HALO) + detail


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--stages", type=int, nargs="+", choices=(1, 2), default=(1, 2))
    parser.add_argument("--designs", nargs="+", help="by name; default: all")
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--sequences", type=int, default=120)
    parser.add_argument("--judged-by", type=int, default=10, help="sequences for validation")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for stage in given.stages:
        training = make_examples(given.pictures / "training", stage, given.sequences, seed=7)
        judges = make_examples(given.pictures / "validation", stage, given.judged_by, seed=99)
        rows = []
        for name, design in DESIGNS[stage].items():
            if given.designs and name not in given.designs:
                continue
            torch.manual_seed(0)
            network, steps = train(DesignedNetwork(design), training, given.seconds)
            error, psnr = judge(network, judges)
            cost = seconds_a_frame(network, stage)
            rows.append([name, f"{cost:.3f}", str(steps), f"{error:.3f}", f"{psnr:.2f}"])
            print(rows[-1], flush=True)
        columns = ["design", "s a frame", "steps", "error, gray levels", "PSNR, dB"]
        print_table(f"network {stage}, {given.seconds:g} CPU-seconds", columns, rows)


def make_examples(folder: Path, stage: int, count: int, seed: int) -> list[Example]:
    """Make the windows of sequences, in half precision."""
    options = PriorOptions()
    paths = usable_images([folder], MIN_PICTURE_PX, ignore)
    maker = SequenceMaker(paths, options.sequences, seed)
    first = load_shipped_prior().networks[0]

    def examples() -> Iterator[Example]:
        for number in range(count):
            sequence = maker.make(number)
            inputs, targets = sequence.low, sequence.clean
            if stage == 1:
                targets = [halved(clean) for clean in targets]
            else:
                inputs = enlarge_fused(sequence.low, first, options.fusion)
            yield from windows(sequence.low, inputs, targets, MAX_REACH, HALO)

    return [(planes.half(), target.half()) for planes, target in examples()]


def train(
    network: DesignedNetwork, examples: list[Example], seconds: float
) -> tuple[DesignedNetwork, int]:
    """Train for a processor time; returns the average of the weights and the number of steps."""
    random = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    average, steps, start = copy.deepcopy(network), 0, time.process_time()
    while (done := (time.process_time() - start) / seconds) < 1:
        optimizer.param_groups[0]["lr"] = cosine_decay(RATE, done)
        planes, target = zip(*(draw_crop(examples, random) for _ in range(BATCH)), strict=True)
        result, wanted = network(torch.stack(planes)), torch.stack(target)
        loss = F.l1_loss(result, wanted)
        loss = loss + PriorOptions().contrast_weight * contrast_loss(result, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
        decay = warm_decay(AVERAGE_DECAY, steps)
        with torch.no_grad():
            for kept, new in zip(average.parameters(), network.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
    return average, steps


def draw_crop(examples: list[Example], random: torch.Generator) -> Example:
    """Draw two crops, flipped and turned at random; the one of more contrast stays."""
    draw, drawn = integer_sampler(random), []
    for _ in range(2):
        planes, target = examples[draw(len(examples))]
        place = draw_placement(target.shape[-2:], CROP_PX, draw, grid=GRID)
        drawn.append((place.cut(planes, HALO).float(), place.cut(target).float()))
    return max(drawn, key=lambda example: float(example[1].std()))


def judge(network: DesignedNetwork, examples: list[Example]) -> tuple[float, float]:
    """Mean absolute error in gray levels, and mean PSNR in dB."""
    errors, decibels = [], []
    with torch.inference_mode():
        for planes, target in examples[::2]:
            result = network(planes[None].float()).clamp(0, 1)
            errors.append(255 * float(F.l1_loss(result[0], target.float())))
            decibels.append(-10 * math.log10(float(F.mse_loss(result[0], target.float()))))
    return sum(errors) / len(errors), sum(decibels) / len(decibels)


def seconds_a_frame(network: DesignedNetwork, stage: int) -> float:
    """Processor time of the convolutions, by the fastest of four strips."""
    layers = [(layer.weight.detach(), layer.bias.detach()) for layer in network.body]
    stack = ConvolutionStack(layers, LEAK, torch.device("cpu"), torch.float32)
    block = network.design.block
    height, width = (side // (2 if stage == 1 else 1) for side in FRAME)
    rows, columns = ((side + 2 * network.halo) // block for side in (STRIP_ROWS, width))
    strip = torch.rand(1, layers[0][0].shape[1], rows, columns)
    seconds = []
    for _ in range(4):
        start = time.process_time()
        stack(strip)
        seconds.append(time.process_time() - start)
    return min(seconds) * height / STRIP_ROWS


if __name__ == "__main__":
    main()
