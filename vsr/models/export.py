"""Networks of a bank as ONNX files, for programs that run networks without vsr."""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from vsr import __version__
from vsr.errors import ModelError, OutputError, UsageError
from vsr.files import write_atomically
from vsr.models.bank import is_shot_model, load_model
from vsr.models.networks.shot_network import ShotNetwork
from vsr.models.networks.singan import Generator
from vsr.models.shot_model import load_shot_model

SUFFIX = ".onnx"
STAGES = (1, 2)
OPSET = 18
EXAMPLE_PX = 32
"""Side of the picture that is traced; the file takes any other."""
PACKAGES = ("onnx", "onnxscript")


@dataclass(frozen=True)
class Exported:
    """A network, as it stands in its ONNX file."""

    network: nn.Module
    input: str
    """Name of the only input."""
    channels: int
    """Channels of the input."""
    output: str
    """Name of the only output."""
    metadata: Mapping[str, str]
    """Description that the file carries; `limits` is for the user as well."""


class KeyframeStep(nn.Module):
    """The detail that one step of the enlargement adds to a picture."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) in [0, 1], enlarged already -> the same with its detail, in [0, 1]."""
        base = 2 * picture - 1
        restored: torch.Tensor = self.generator(base, base)
        return ((restored + 1) / 2).clamp(0, 1)


class ShotStage(nn.Module):
    """The detail that one stage of a shot model finds, without motion and without fusion."""

    def __init__(self, network: ShotNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """(N, planes, H, W) of even sides -> luma to be added to all colors, (N, 1, H, W)."""
        halo = self.network.spec.halo
        padded = nn.functional.pad(planes, (halo,) * 4, mode="replicate")
        detail: torch.Tensor = self.network(padded)
        return detail


def export(
    model: str | Path, output: str | Path, stage: int | None, *, overwrite: bool
) -> Exported:
    """Write the network of a model file as ONNX, under its name only when it is whole.

    `stage` chooses one of the two networks of a shot model, and is None for all other models.
    Raises `UsageError`, `ModelError` for a model file that cannot be read or a package that is not
    installed, `OutputError` where the file exists or cannot be written.
    """
    path, target = Path(model), Path(output)
    if target.suffix.lower() != SUFFIX:
        raise UsageError(f"the output is {target}; expected a name that ends in {SUFFIX}.")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists already; give -y to replace it, or name another file.")
    if not target.parent.is_dir():
        raise OutputError(f"there is no folder {target.parent}; make it, or name another.")
    exported = describe(path, stage)
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ModelError(
            f"the package {missing[0]} is not installed, which writes ONNX files: pip install "
            "'steady-vsr[export]'."
        )
    try:
        write_atomically(target, encode(exported))
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror or error}.") from error
    return exported


def describe(path: Path, stage: int | None) -> Exported:
    """Read a model file and tell what its ONNX file holds. Raises `UsageError` or `ModelError`."""
    if is_shot_model(path):
        if stage is None:
            raise UsageError(
                f"{path} holds two networks: give --stage 1 for the first doubling, or --stage 2 "
                "for those after it."
            )
        return _describe_stage(path, stage)
    if stage is not None:
        raise UsageError(f"--stage is for shot models, and {path} is not one: leave it out.")
    return _describe_step(path)


def _describe_step(path: Path) -> Exported:
    model = load_model(path)
    card = model.card
    kind = "student" if card.is_student else "keyframe model"
    return Exported(
        KeyframeStep(model.generator),
        "picture",
        3,
        "detailed",
        {
            "model": model.name,
            "kind": kind,
            "arch": card.arch,
            "step_ratio": repr(card.step_ratio),
            "input": "RGB, (N, 3, H, W), in [0, 1], at the size of the output",
            "output": "RGB, (N, 3, H, W), in [0, 1]",
            "limits": (
                "one step: the file neither enlarges (give it the picture enlarged "
                f"{card.step_ratio:.4g} times by bicubic interpolation) nor back-projects onto the "
                "input, nor fuses frames along the motion, so that its result flickers more than "
                "that of vsr run"
            ),
            "version": __version__,
        },
    )


def _describe_stage(path: Path, stage: int) -> Exported:
    model = load_shot_model(path)
    spec = model.card.network
    return Exported(
        ShotStage(model.networks[stage - 1]),
        "planes",
        spec.planes,
        "detail",
        {
            "model": model.name,
            "kind": "shot model",
            "stage": str(stage),
            "neighbors": str(spec.neighbours),
            "input": (
                f"(N, {spec.planes}, H, W) of even sides: full-range BT.601 luma in [0, 1] of the "
                "frame enlarged twice; then, nearest first and past before future, each "
                "neighbor's difference from it along the motion, times its confidence; zeros "
                "where there is none"
            ),
            "output": "luma (N, 1, H, W), to be added to each color of the enlarged frame",
            "limits": (
                f"stage {stage} alone, one doubling: the file neither enlarges nor registers "
                "neighbors, nor fuses frames along the motion, nor back-projects onto the input, "
                "so that its result is less sharp and flickers more than that of vsr run"
            ),
            "version": __version__,
        },
    )


def encode(exported: Exported) -> bytes:
    """Encode a network as the bytes of an ONNX file, of any number, height and width of
    pictures."""
    example = torch.zeros(2, exported.channels, EXAMPLE_PX, EXAMPLE_PX + 4)
    names = ("batch", None, "height", "width")
    sides = {axis: torch.export.Dim(name) for axis, name in enumerate(names) if name}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            exported.network.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[exported.input],
            output_names=[exported.output],
            dynamic_shapes=(sides,),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    # Traces of our source, with the places where it lies on this machine.
    for node in proto.graph.node:
        del node.metadata_props[:]
    for key, value in exported.metadata.items():
        proto.metadata_props.add(key=key, value=value)
    data: bytes = proto.SerializeToString()
    return data
