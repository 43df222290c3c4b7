"""Weight files that metrics and the losses of `vsr train` need: names, search, checks, reading.
Nothing is downloaded here (see `download.py`); no file runs code."""

import hashlib
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vsr.errors import ModelError

WEIGHTS_PATH_VARIABLE = "VSR_WEIGHTS"
"""Environment variable: one folder of weight files, or several joined as in PATH."""

_ZOO = "https://download.pytorch.org/models/"
_TORCHVISION = f"torchvision's model zoo, {_ZOO}"
_ZOO_LICENSE = "BSD-3-Clause, trained on ImageNet, whose pictures are for research"


@dataclass(frozen=True)
class WeightFile:
    """A file that a metric or a loss needs."""

    name: str
    """Its name where users usually get it."""
    source: str
    """Place where users usually get it."""
    patterns: tuple[str, ...]
    """Glob patterns of the names under which it is accepted, the best first."""
    sha256: str
    """Hash of the published file, or the beginning of it; another file is accepted if its content
    fits."""
    license: str
    """License that the publisher names."""
    address: str = ""
    """Address that it can be fetched from; empty where the publisher states no hash to check it
    by."""

    @property
    def missing(self) -> str:
        """Advice for a user who lacks it."""
        fetched = f"vsr weights get {self.name} fetches it, or " if self.address else ""
        return f"no {self.name} (from {self.source}); {fetched}{placement_hint('it')}"


ALEXNET = WeightFile(
    "alexnet-owt-7be5be79.pth",
    _TORCHVISION,
    ("alexnet-owt*.pth", "alexnet*.safetensors"),
    sha256="7be5be79",
    license=_ZOO_LICENSE,
    address=f"{_ZOO}alexnet-owt-7be5be79.pth",
)
VGG16 = WeightFile(
    "vgg16-397923af.pth",
    _TORCHVISION,
    ("vgg16-*.pth", "vgg16.pth", "vgg16*.safetensors"),
    sha256="397923af",
    license=_ZOO_LICENSE,
    address=f"{_ZOO}vgg16-397923af.pth",
)
VGG19 = WeightFile(
    "vgg19-dcbb9e9d.pth",
    _TORCHVISION,
    ("vgg19-*.pth", "vgg19.pth", "vgg19*.safetensors"),
    sha256="dcbb9e9d",
    license=_ZOO_LICENSE,
    address=f"{_ZOO}vgg19-dcbb9e9d.pth",
)
SQUEEZENET = WeightFile(
    "squeezenet1_1-b8a52dc0.pth",
    _TORCHVISION,
    ("squeezenet1_1*.pth", "squeezenet1_1*.safetensors"),
    sha256="b8a52dc0",
    license=_ZOO_LICENSE,
    address=f"{_ZOO}squeezenet1_1-b8a52dc0.pth",
)
FID_INCEPTION = WeightFile(
    "pt_inception-2015-12-05-6726825d.pth",
    "the releases of https://github.com/mseitzer/pytorch-fid",
    ("pt_inception-2015-12-05*.pth", "pt_inception-2015-12-05*.safetensors"),
    sha256="6726825d",
    license="Apache-2.0",
    address="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
    "pt_inception-2015-12-05-6726825d.pth",
)
IMAGENET_INCEPTION = WeightFile(
    "inception_v3_google-0cc3c7bd.pth",
    _TORCHVISION,
    ("inception_v3_google-*.pth", "inception_v3*.safetensors"),
    sha256="0cc3c7bd",
    license=_ZOO_LICENSE,
    address=f"{_ZOO}inception_v3_google-0cc3c7bd.pth",
)
DISTS_WEIGHTS = WeightFile(
    "dists_alpha_beta.pt",
    "https://github.com/dingkeyan93/DISTS, there DISTS_pytorch/weights.pt",
    ("dists*.pt", "dists*.pth", "dists*.safetensors"),
    sha256="f5e65c96230b",
    license="MIT",
)
NIQE_MODEL = WeightFile(
    "niqe_pris_params.npz",
    (
        "https://github.com/XPixelGroup/BasicSR, there basicsr/metrics; or fit one by `vsr weights "
        "fit-niqe`"
    ),
    ("niqe*.npz", "*niqe*params*.mat", "niqe*.mat"),
    sha256="2a7c182a68c9",
    license="Apache-2.0",
)
BRISQUE_MODEL = WeightFile(
    "brisque_model_live.yml",
    "https://github.com/opencv/opencv_contrib, there modules/quality/samples",
    ("brisque_model*.yml",),
    sha256="4c44c7eec9e5",
    license="Apache-2.0",
)
BRISQUE_RANGE = WeightFile(
    "brisque_range_live.yml",
    BRISQUE_MODEL.source,
    ("brisque_range*.yml",),
    sha256="a18427f4f7ad",
    license="Apache-2.0",
)

LOSS_WEIGHTS = {
    "vgg22": (VGG19,),
    "vgg54": (VGG19,),
    "vgg54_esrgan": (VGG19,),
    "diversity_features": (SQUEEZENET,),
}
"""Files by the losses of `vsr train` that need them, where no metric of that name does."""


def weight_folders() -> list[Path]:
    """List the folders that are searched, in order: those of `VSR_WEIGHTS`, then torch's own
    cache."""
    named = [
        Path(part) for part in os.environ.get(WEIGHTS_PATH_VARIABLE, "").split(os.pathsep) if part
    ]
    return [*named, Path(torch.hub.get_dir()) / "checkpoints"]


def find_weights(patterns: Sequence[str]) -> Path | None:
    """Find the first file that fits one of the glob patterns; folders count before patterns, names
    in alphabetical order."""
    for folder in weight_folders():
        for pattern in patterns:
            fitting = sorted(path for path in folder.glob(pattern) if path.is_file())
            if fitting:
                return fitting[0]
    return None


def is_published(file: WeightFile, path: Path) -> bool:
    """Tell whether the file at `path` is byte for byte the published one. Raises `ModelError` where
    it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest().startswith(file.sha256)
    except OSError as error:
        raise _unreadable(path, error) from error


def placement_hint(file_name: str) -> str:
    """Advise a user who lacks a weight file."""
    return (
        f"put {file_name} into a folder named by {WEIGHTS_PATH_VARIABLE}, or into "
        f"{weight_folders()[-1]}"
    )


def load_weights(path: Path, shapes: Mapping[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Read the tensors named by `shapes`, as float32 on the CPU; further tensors in the file are
    left out.

    Raises `ModelError` where the file cannot be read, or a tensor is missing, of another shape or
    not finite.
    """
    stored = _read(path)
    for name, shape in shapes.items():
        found = stored.get(name)
        if not isinstance(found, torch.Tensor):
            raise ModelError(
                f"{path} lacks the tensor {name}, so it holds another network; replace it"
            )
        if found.shape != shape:
            raise ModelError(
                f"{path}: {name} is {tuple(found.shape)}, expected {tuple(shape)}; replace the file"
            )
        if not torch.isfinite(found).all():
            raise ModelError(f"{path}: {name} holds values that are not finite; replace the file")
    return {name: stored[name].float() for name in shapes}


def _read(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        # Weights only: a pickle that names anything else is refused, and none of it is run.
        stored = torch.load(path, map_location="cpu", weights_only=True)
    # What a damaged or foreign file leads to depends on where its bytes go wrong.
    except (
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        KeyError,
        AttributeError,
        pickle.UnpicklingError,
    ) as error:
        raise _unreadable(path, error) from error
    if not isinstance(stored, dict):
        raise ModelError(
            f"{path} holds a {type(stored).__name__}, expected a table of tensors (a state_dict)"
        )
    return stored


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    return stored


def _unreadable(path: Path, error: Exception) -> ModelError:
    first_line = str(error).partition("\n")[0]
    return ModelError(f"{path} is not a readable weight file ({first_line}); replace it")
