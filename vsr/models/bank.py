"""Models and banks on disk: one `.safetensors` file a model, checked in full before use. Loading
never runs code."""

import json
from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from vsr.errors import ModelError
from vsr.files import write_atomically
from vsr.image.blur import KernelTaps
from vsr.models.networks.singan import Critic, Generator, NetworkSpec
from vsr.models.safetensors import check_tensors, encode_tensors, read_metadata, read_tensors

SHOT_MODEL_SUFFIX = ".shot.safetensors"
"""Ends the names of shot models, which live in the same folder and are read by
`vsr.models.shot_model`."""
MAX_WIDTH = 256
MAX_DEPTH = 16
MAX_KERNEL_SIDE = 63
"""Taps of a side."""
SYSTEMS = ("singan", "zssr", "kernelgan", "zssrgan")
"""What trains on a keyframe; kernelgan is ZSSR with a blur kernel. Models of different systems may
share a bank."""
OPTIONAL_NETWORK_FIELDS = frozenset({"leak", "bias"})


@dataclass(frozen=True)
class Distillation:
    """What a student was taught, and how far it stayed from that."""

    teacher: str
    """Policy that the student stands for."""
    teachers: tuple[str, ...]
    """Names of the models that made the teacher."""
    psnr_db: float
    """Of the student against its teacher, at four times the size, on frames that it was not trained
    on."""
    flicker_ratio: float | None
    """The student's `flicker_live` over its teacher's there; None where there is none, as in a shot
    of one frame."""


@dataclass(frozen=True)
class ModelCard:
    """Where a model comes from. Every field stands in the file's metadata under its own name, as
    JSON."""

    arch: str
    network: NetworkSpec
    scale_factors: tuple[float, ...]
    """Enlargement of one step, height and width; the model is applied over and over to reach a
    scale."""
    noise_amplitude: float
    """Of the noise in training, in units of [-1, 1] pictures; inference uses none."""
    recipe: str
    seed: int
    clip: str
    """File name of the clip, without its folder."""
    clip_identity: str
    keyframe: int
    """Frame number, from 0."""
    keyframe_hash: str
    """SHA-256 of the keyframe's pixels; models of equal hash were trained on the same picture."""
    frame_time: float
    """Presentation time of the keyframe in seconds."""
    shot_start_seconds: float
    shot_end_seconds: float
    """Time of the first frame after the shot."""
    critic_mean: float | None
    """Mean of the critic's map on the keyframe, for DSRF; None for a model without a critic."""
    critic_std: float | None
    """Standard deviation of that map."""
    loss_curve: tuple[float, ...]
    """Reconstruction loss over equal parts of the training."""
    version: str
    """Of vsr."""
    distillation: Distillation | None = None
    """Of a student; None for a model that was trained on the keyframe itself."""
    kernel: KernelTaps | None = None
    """Blur kernel of half the size that the model was trained with; None: bicubic."""
    remark: str = ""
    """What the user should know of the training, such as that it was stopped early."""

    @property
    def system(self) -> str:
        """Which of `SYSTEMS` the model belongs to."""
        family = self.arch.partition("-")[0]
        return "kernelgan" if family == "zssr" and self.kernel is not None else family

    @property
    def step_ratio(self) -> float:
        return self.scale_factors[0]

    @property
    def is_student(self) -> bool:
        """Whether the model was distilled from others."""
        return self.distillation is not None


@dataclass(frozen=True, eq=False)
class Model:
    """One trained generator with its critic, where its method trains one, in eval mode."""

    name: str
    """File name without `.safetensors`."""
    card: ModelCard
    generator: Generator
    critic: Critic | None


def select_system(models: Sequence[Model], system: str | None = None) -> list[Model]:
    """The models of a system; where none is named, those of the first of `SYSTEMS` that the bank
    has."""
    held = {model.card.system for model in models}
    wanted = next((name for name in SYSTEMS if name in held), None) if system is None else system
    return [model for model in models if model.card.system == wanted]


def encode_model(card: ModelCard, generator: Generator, critic: Critic | None) -> bytes:
    """The content of a model file."""
    tensors = {f"generator.{name}": tensor for name, tensor in generator.state_dict().items()}
    if critic is not None:
        tensors |= {f"critic.{name}": tensor for name, tensor in critic.state_dict().items()}
    metadata = {name: json.dumps(value, allow_nan=False) for name, value in asdict(card).items()}
    return encode_tensors(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata
    )


def save_model(path: Path, card: ModelCard, generator: Generator, critic: Critic | None) -> None:
    """Write a model under its name only when it is whole."""
    write_atomically(path, encode_model(card, generator, critic))


def load_bank(folder: Path) -> list[Model]:
    """All models of a folder, by name. Raises `ModelError` for a missing folder, a broken file or
    an old pickle."""
    try:
        files = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(
            f"there is no folder of models at {folder}. Train one with: vsr train-keyframe CLIP "
            f"--models {folder}"
        ) from None
    except OSError as error:
        raise ModelError(
            f"the folder of models {folder} cannot be read: {error.strerror}."
        ) from None
    pickles = sorted(path.name for path in files if path.suffix in {".pth", ".pt", ".pkl", ".ckpt"})
    if pickles:
        raise ModelError(
            f"{folder} holds {pickles[0]}, a pickle that could run code on loading; a bank holds "
            ".safetensors files only. Move it away or train the model anew."
        )
    return [load_model(path) for path in bank_files(folder)]


def bank_files(folder: Path) -> list[Path]:
    """The keyframe models of a folder, by name; hidden ones are unfinished and left out."""
    return sorted(
        path
        for path in folder.glob("*.safetensors")
        if not path.name.startswith(".") and not is_shot_model(path)
    )


def is_shot_model(path: Path) -> bool:
    """Whether the name is that of a shot model."""
    return path.name.endswith(SHOT_MODEL_SUFFIX)


def has_shot_model(folder: Path) -> bool:
    """Whether a bank holds a shot model."""
    return any(not path.name.startswith(".") for path in folder.glob(f"*{SHOT_MODEL_SUFFIX}"))


def load_model(path: Path) -> Model:
    """Read one model and check everything: size, metadata, tensor names, shapes, types, finite
    values.

    Raises `ModelError` that names the file and what is wrong with it.
    """
    metadata, tensors = read_tensors(path)
    card = _card_from_metadata(path, metadata)
    generator, critic = (
        Generator(card.network),
        None if card.critic_mean is None else Critic(card.network),
    )
    parts: dict[str, torch.nn.Module] = {"generator.": generator}
    if critic is not None:
        parts["critic."] = critic
    if strangers := sorted(name for name in tensors if not name.startswith(tuple(parts))):
        raise ModelError(
            f"{path} holds an unknown tensor {strangers[0]}; a model has a generator and a critic."
        )
    for prefix, network in parts.items():
        state = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        check_tensors(path, prefix, network.state_dict(), state)
        network.load_state_dict(state)
        network.eval().requires_grad_(False)
    return Model(path.stem, card, generator, critic)


def load_card(path: Path) -> ModelCard:
    """Read and check only the metadata of a model file."""
    return _card_from_metadata(path, read_metadata(path))


Value = TypeVar("Value")


def _card_from_metadata(path: Path, metadata: dict[str, str]) -> ModelCard:
    def take(name: str, check: Callable[[Any], Value]) -> Value:
        if name not in metadata:
            raise ModelError(f"{path} has no {name} in its metadata; it is not a model of vsr.")
        try:
            return check(json.loads(metadata[name]))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise ModelError(
                f"{path}: its metadata has a wrong {name}: {metadata[name][:80]!r} ({error})."
            ) from None

    # Cards of older versions lack the fields that have a default.
    named = [
        field.name
        for field in fields(ModelCard)
        if field.name in metadata or field.default is MISSING
    ]
    values: dict[str, Any] = {name: take(name, _CARD_CHECKS[name]) for name in named}
    return ModelCard(**values)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")
    return value


def _number(value: Any) -> float:
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not abs(value) < float("inf")
    ):
        raise ValueError("expected a finite number")
    return float(value)


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("expected a whole number")
    return value


def _numbers(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise ValueError("expected a list of numbers")
    return tuple(_number(item) for item in value)


def _scale_factors(value: Any) -> tuple[float, ...]:
    factors = _numbers(value)
    if len(factors) != 2 or not all(1 < factor <= 8 for factor in factors):
        raise ValueError("expected two factors above 1 and at most 8")
    return factors


def _network(value: Any) -> NetworkSpec:
    names = {field.name for field in fields(NetworkSpec)}
    # Models of older versions lack the fields that came later.
    if not isinstance(value, dict) or not names - OPTIONAL_NETWORK_FIELDS <= value.keys() <= names:
        raise ValueError("expected the fields of a network")
    spec = NetworkSpec(**value)
    if not (1 <= _integer(spec.width) <= MAX_WIDTH and 2 <= _integer(spec.layers) <= MAX_DEPTH):
        raise ValueError(f"expected 1 to {MAX_WIDTH} channels and 2 to {MAX_DEPTH} layers")
    switches = {type(spec.batch_norm), type(spec.tanh), type(spec.bias)}
    if spec.padding not in ("zeros", "replicate") or switches != {bool}:
        raise ValueError("expected a known padding and true or false")
    if not 0 <= _number(spec.leak) <= 1:
        raise ValueError("expected a leak from 0 to 1")
    return spec


def _number_or_none(value: Any) -> float | None:
    return None if value is None else _number(value)


def _kernel(value: Any) -> KernelTaps | None:
    if value is None:
        return None
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_KERNEL_SIDE:
        raise ValueError(f"expected a square of 1 to {MAX_KERNEL_SIDE} rows")
    rows = tuple(_numbers(row) for row in value)
    if {len(row) for row in rows} != {len(rows)}:
        raise ValueError("expected a square of numbers")
    return rows


def _distillation(value: Any) -> Distillation | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() != {
        field.name for field in fields(Distillation)
    }:
        raise ValueError("expected the fields of a distillation")
    if not isinstance(value["teachers"], list):
        raise ValueError("expected a list of models")
    ratio = value["flicker_ratio"]
    return Distillation(
        teacher=_text(value["teacher"]),
        teachers=tuple(_text(name) for name in value["teachers"]),
        psnr_db=_number(value["psnr_db"]),
        flicker_ratio=None if ratio is None else _number(ratio),
    )


_CARD_CHECKS: dict[str, Callable[[Any], Any]] = {
    "arch": _text,
    "network": _network,
    "scale_factors": _scale_factors,
    "noise_amplitude": _number,
    "recipe": _text,
    "seed": _integer,
    "clip": _text,
    "clip_identity": _text,
    "keyframe": _integer,
    "keyframe_hash": _text,
    "frame_time": _number,
    "shot_start_seconds": _number,
    "shot_end_seconds": _number,
    "critic_mean": _number_or_none,
    "critic_std": _number_or_none,
    "loss_curve": _numbers,
    "version": _text,
    "distillation": _distillation,
    "kernel": _kernel,
    "remark": _text,
}
