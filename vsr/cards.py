"""Model cards: of every upscaler what it is, where it comes from, what it costs and when to use it.

`vsr upscalers` prints them, and `vsr upscalers --markdown` writes docs/upscalers.md from the same text.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vsr.errors import UsageError
from vsr.external.methods import METHODS as EXTERNAL
from vsr.networks.singan import Generator, NetworkSpec
from vsr.networks.window import WindowNetwork, WindowSpec
from vsr.training import METHODS as INTERNAL
from vsr.upscalers import Upscaler, load_upscaler
from vsr.upscalers.architectures import ARCHITECTURES

SCALE = 4
PROBE_SIDE_PX = 32
"""Of the input that costs are counted on; all of these networks cost the same at every pixel."""
DEFAULT_BANK = 15
CLIP, PICTURES = "vsr train-keyframe CLIP --models DIR", "vsr train --images DIR -o FILE"


@dataclass(frozen=True)
class Card:
    """One upscaler."""

    what: str
    source: str
    when: str
    how: str
    """The command that makes it ready, if any, and the option that uses it."""
    macs: Callable[[], float] | None
    """Multiplications and additions of its convolutions for each output pixel at x4; None where there are none."""
    besides: str = ""
    """Work that is no convolution."""

    @property
    def cost(self) -> str:
        """In words."""
        if self.macs is None:
            return self.besides or "no convolutions"
        thousands = self.macs() / 1000
        counted = f"{thousands:.3g} thousand multiply-adds" if thousands < 1e5 else f"{thousands / 1000:.0f} million"
        return counted + (f", {self.besides}" if self.besides else "")


def macs_per_output_px(network: nn.Module, channels: int, enlargement: int) -> float:
    """Multiply-adds of the convolutions of a network, counted as it runs, for each pixel that it gives."""
    parameter = next(network.parameters())
    planes = torch.zeros(1, channels, PROBE_SIDE_PX, PROBE_SIDE_PX, device=parameter.device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(planes)
    return float(counter.get_total_flops() / 2 / (PROBE_SIDE_PX * enlargement) ** 2)


def file_card(path: Path) -> str:
    """What is known of a network in a file. Raises `ModelError` as `load_upscaler` does."""
    upscaler = load_upscaler(path, torch.device("cpu"))
    lines = [f"{path.name}: {upscaler.about}", f"cost: {_file_macs(upscaler) / 1000:.3g} thousand multiply-adds"]
    lines[-1] += f" for each output pixel at x{upscaler.scale}"
    if upscaler.remark:
        lines.append(upscaler.remark)
    return "\n".join([*lines, f"use: vsr run CLIP --upscaler {path.name}"])


def named_card(name: str) -> Card:
    """Raises `UsageError` for a name without a card."""
    if name not in CARDS:
        raise UsageError(f"there is no upscaler {name}, and no file of that name; known: {', '.join(CARDS)}.")
    return CARDS[name]


def markdown() -> str:
    """All cards as a page."""
    lines = [
        "# Upscalers",
        "",
        "What can enlarge a frame here: policies over models of the clip itself, networks trained on pictures, and",
        "interpolation. Each is used by `vsr run`, gets the same flicker control and is scored by the same metrics. This",
        "page is written by `vsr upscalers --markdown`; costs are counted by running each network, for one output pixel at",
        f"x{SCALE} with the default settings. `vsr upscalers FILE` shows the card of a file.",
        "",
        "| upscaler | cost per output pixel | when to use it |",
        "|---|---|---|",
        *(f"| [{name}](#{name}) | {card.cost} | {card.when} |" for name, card in CARDS.items()),
    ]
    for name, card in CARDS.items():
        lines += ["", f"## {name}", "", card.what, "", f"- Source: {card.source}", f"- Cost: {card.cost}"]
        lines += [f"- When: {card.when}", f"- How: {card.how}"]
    return "\n".join(lines)


def _file_macs(upscaler: Upscaler) -> float:
    planes = torch.zeros(1, 1 if upscaler.luma else 3 + upscaler.noise_channels, PROBE_SIDE_PX, PROBE_SIDE_PX)
    with FlopCounterMode(display=False) as counter:
        upscaler.run(planes)
    enlargement = 1 if upscaler.enlarged_first else upscaler.scale
    return float(counter.get_total_flops() / 2 / (PROBE_SIDE_PX * enlargement) ** 2)


def _of_generator(spec: NetworkSpec, step_ratio: float, times: int = 1) -> Callable[[], float]:
    """A generator that is applied again and again: each step works on the picture as large as it makes it."""

    def macs() -> float:
        with torch.device("meta"):
            body = Generator(spec).body
            side = PROBE_SIDE_PX + 2 * spec.halo
            with FlopCounterMode(display=False) as counter:
                body(torch.zeros(1, 3, side, side))
        at_full_size = counter.get_total_flops() / 2 / PROBE_SIDE_PX**2
        steps = round(torch.log(torch.tensor(float(SCALE))).item() / torch.log(torch.tensor(step_ratio)).item())
        return times * at_full_size * sum(step_ratio ** (-2 * step) for step in range(steps))

    return macs


def _of_shot() -> float:
    """Two doublings; the first works on a quarter of the pixels."""
    spec = WindowSpec()
    with torch.device("meta"):
        network, side = WindowNetwork(spec), PROBE_SIDE_PX + 2 * spec.halo
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, spec.planes, side, side))
    return float(counter.get_total_flops() / 2 / PROBE_SIDE_PX**2 * (1 + 1 / 4))


def _of_method(name: str) -> Callable[[], float]:
    def macs() -> float:
        method = EXTERNAL[name]
        architecture = ARCHITECTURES[method.arch]
        channels = 1 if architecture.luma else 3 + getattr(method.network, "noise_channels", 0)
        with torch.device("meta"):
            network = architecture.build(method.network)
        return macs_per_output_px(network, channels, 1 if architecture.enlarged_first else method.network.scale)

    return macs


_QUICK = (INTERNAL["quick"].options.network, INTERNAL["quick"].options.step_ratio)
_ZSSR = (INTERNAL["zssr"].options.network, INTERNAL["zssr"].options.step_ratio)
_SEED_000 = "seed 000, SinGANxSR (after Rott Shaham, Dekel, Michaeli, SinGAN, ICCV 2019)"

CARDS: dict[str, Card] = {
    "smi": Card(
        "One small SinGAN, trained on a keyframe of the clip, applied over and over to every frame (single model inference).",
        _SEED_000,
        "The quickest start: seconds of training, sharp, no data; flicker control does the rest.",
        f"`{CLIP}`, then `--policy smi --models DIR`",
        _of_generator(*_QUICK),
    ),
    "dsrfi": Card(
        "SMI with the model of the bank whose critic finds the frame most like its keyframe (least absolute DSRF).",
        _SEED_000,
        "Banks with models of several scenes, where nobody knows which fits; `selfrec` chooses more reliably.",
        f"`{CLIP} --shots all`, then `--policy dsrfi --models DIR`",
        _of_generator(*_QUICK),
        "and a look at the bank once a shot",
    ),
    "selfrec": Card(
        "SMI with the model that best restores the frame from its own reduction.",
        "this project, from seed 000's question which model fits",
        "As `dsrfi`.",
        f"`{CLIP} --shots all`, then `--policy selfrec --models DIR`",
        _of_generator(*_QUICK),
        "and a look at the bank once a shot",
    ),
    "ami": Card(
        "Two or more models of a keyframe that take turns over the steps (alternating models inference).",
        _SEED_000,
        "A little steadier than one model at the same cost.",
        f"`{CLIP}`, then `--policy ami --models DIR`",
        _of_generator(*_QUICK),
    ),
    "avgi": Card(
        f"The mean of what all models of a keyframe make, {DEFAULT_BANK} in a default bank.",
        _SEED_000,
        "Steadiness without flicker control, for detail and time.",
        f"`{CLIP}`, then `--policy avgi --models DIR`",
        _of_generator(*_QUICK, times=DEFAULT_BANK),
    ),
    "student": Card(
        "One model distilled from those of AVGI.",
        "this project",
        "AVGI's pictures at the cost of one model.",
        "`vsr distil CLIP --models DIR`, then `--policy student --models DIR`",
        _of_generator(*_QUICK),
    ),
    "shot": Card(
        "A network of several frames, trained on the shot across scale, fused along the motion.",
        "this project",
        "The best of what learns from the clip alone: sharper, closer to the truth and steadier than one model.",
        "`vsr train-shot CLIP --models DIR`, then `--policy shot --models DIR`",
        _of_shot,
        "and motion and fusion along it",
    ),
    "zssr": Card(
        "Zero-shot super-resolution: eight convolutions trained to restore the keyframe from its own reduction.",
        "Shocher, Cohen, Irani, CVPR 2018; in seeds 000 and 001",
        "Faithful rather than sharp, also for real footage where its kernel is known.",
        f"`{CLIP} --method zssr`, then `--policy zssr --models DIR`",
        _of_generator(*_ZSSR),
        "eight times with its self-ensemble",
    ),
    "kernelgan": Card(
        "ZSSR trained with the blur kernel that KernelGAN finds in the clip.",
        "Bell-Kligler, Shocher, Irani, NeurIPS 2019; in seed 001",
        "Footage whose softness is not that of bicubic reduction.",
        f"`{CLIP} --method zssr --kernel auto`, then `--policy kernelgan --models DIR`",
        _of_generator(*_ZSSR),
        "eight times with its self-ensemble",
    ),
    "zssrgan": Card(
        "ZSSR with KernelGAN's discriminator as a further loss.",
        "seed 001",
        "Between ZSSR and SinGAN in sharpness; an experiment more than a tool.",
        f"`{CLIP} --method zssrgan`, then `--policy zssrgan --models DIR`",
        _of_generator(*_ZSSR),
        "eight times with its self-ensemble",
    ),
    "srcnn": Card(
        "Three convolutions that sharpen a bicubically enlarged luma; chroma is bicubic.",
        "Dong, Loy, He, Tang, ECCV 2014; in seed 004",
        "As the beginning of the history; every other network here does more for less.",
        f"`{PICTURES} --method srcnn`, then `--upscaler FILE`",
        _of_method("srcnn"),
    ),
    "fsrcnn": Card(
        "Convolutions at the low resolution, then one transposed convolution; luma alone, chroma is bicubic.",
        "Dong, Loy, Tang, ECCV 2016; in seed 004",
        "The lightest network that is clearly better than interpolation.",
        f"`{PICTURES} --method fsrcnn`, then `--upscaler FILE`; published files are read, too",
        _of_method("fsrcnn"),
    ),
    "espcn": Card(
        "Three convolutions at the low resolution and a sub-pixel shuffle; luma alone, chroma is bicubic.",
        "Shi et al., CVPR 2016; in seed 004",
        "Where time counts most. Published files expect inputs reduced without antialiasing: train your own.",
        f"`{PICTURES} --method espcn`, then `--upscaler FILE`",
        _of_method("espcn"),
    ),
    "srresnet": Card(
        "16 residual blocks and sub-pixel stages, trained on pixels.",
        "Ledig et al., CVPR 2017; in seed 004",
        "The most faithful of seed 004's networks; soft where the input does not tell the detail.",
        f"`{PICTURES} --method srresnet`, then `--upscaler FILE`",
        _of_method("srresnet"),
    ),
    "srgan": Card(
        "SRResNet trained against a discriminator, with a perceptual loss.",
        "Ledig et al., CVPR 2017; in seeds 002 and 004",
        "Detail that is invented; keep flicker control on.",
        f"`{PICTURES} --method srgan --start SRRESNET`, then `--upscaler FILE`",
        _of_method("srgan"),
    ),
    "esrgan": Card(
        "23 residual-in-residual dense blocks, trained with LPIPS, a relativistic discriminator and a loss of spectra.",
        "Wang et al., 2018; with the losses of seed 003",
        "The sharpest, on a GPU; far too slow for video on a CPU.",
        f"`{PICTURES} --method esrgan`, then `--upscaler FILE`; most published ESRGAN files are read, too",
        _of_method("esrgan"),
    ),
    "stochastic": Card(
        "A network with noise beside the picture: each `--set sample=N` is another plausible answer, all of which reduce to "
        "the input. In video one noise serves a whole shot.",
        "seed 002 (NTIRE 2021, learning the SR space)",
        "To see what the input leaves open; not to restore.",
        f"`{PICTURES} --method stochastic`, then `--upscaler FILE --set sample=N`",
        _of_method("stochastic"),
    ),
    "bicubic": Card(
        "Bicubic interpolation.",
        "Keys, 1981",
        "To compare with; it neither flickers nor restores anything.",
        "`--policy bicubic`",
        None,
        "16 multiply-adds and no convolutions",
    ),
    "lanczos": Card(
        "Lanczos interpolation with three lobes.",
        "Duchon, 1979",
        "As bicubic, a little sharper, with ringing.",
        "`--policy lanczos`",
        None,
        "36 multiply-adds and no convolutions",
    ),
}
