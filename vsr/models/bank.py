"""Models and banks on disk: one `.safetensors` file a model, checked in full before use. Loading
never runs code."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import nn

from vsr.errors import ModelError
from vsr.files import write_atomically
from vsr.image.blur import KernelTaps
from vsr.models.networks.singan import Critic, Generator, NetworkSpec
from vsr.models.safetensors import (
    card_from_metadata,
    encode_networks,
    fill_networks,
    read_metadata,
    read_tensors,
)
from vsr.records import limits

SHOT_MODEL_SUFFIX = ".shot.safetensors"
"""Ending of the names of shot models, which live in the same folder and are read by
`vsr.models.shot_model`."""
MAX_KERNEL_SIDE = 63
"""Taps of a side of a blur kernel."""
BASELINE = "baseline"
SYSTEMS = ("singan", "zssr", "kernelgan", "zssrgan", BASELINE)
"""Methods that train on a keyframe; kernelgan is ZSSR with a blur kernel, and models of `BASELINE`
were trained on each frame of a clip, each for itself. Models of different
systems may share a bank."""


@dataclass(frozen=True)
class Distillation:
    """Teacher of a student, and how far the student stayed from it."""

    teacher: str
    """Policy that the student stands for."""
    teachers: tuple[str, ...]
    """Names of the models that made the teacher."""
    psnr_db: float
    """PSNR of the student against its teacher, at four times the size, on frames that it was not
    trained on."""
    flicker_ratio: float | None
    """The student's `flicker_live` over its teacher's there; None where there is none, as in a shot
    of one frame."""
    settings: tuple[str, ...] = ()
    """Options of its training that were not the default, as "key=value"."""


def check_kernel(kernel: KernelTaps | None) -> None:
    """Raise `ValueError` unless a card's kernel is a square of a possible size."""
    sides = {len(kernel), *map(len, kernel)} if kernel is not None else {1}
    if len(sides) > 1 or not 1 <= max(sides) <= MAX_KERNEL_SIDE:
        raise ValueError(f"kernel is not a square of 1 to {MAX_KERNEL_SIDE} taps a side")


class MadeOnShot(Protocol):
    """Card of a model of any kind, as far as it names the shot that the model was trained on."""

    @property
    def clip_identity(self) -> str:
        """Identity of its clip; empty where that is not known."""

    @property
    def shot_start_seconds(self) -> float:
        """Time of its first frame."""

    @property
    def shot_end_seconds(self) -> float:
        """Time of the first frame after it."""


def is_of_shot(card: MadeOnShot, clip_identity: str, seconds: float) -> bool:
    """Tell whether a model was trained on the shot of a clip at a time, in seconds.

    Times of another clip, or of another cut of this one, mean nothing.
    """
    return (
        card.clip_identity == clip_identity != ""
        and card.shot_start_seconds <= seconds < card.shot_end_seconds
    )


@dataclass(frozen=True)
class ModelCard:
    """Origin of a model. Every field stands in the file's metadata under its own name, as JSON;
    files of older versions lack those that have a default."""

    arch: str
    network: NetworkSpec
    scale_factors: tuple[float, float] = field(metadata=limits(above=1, at_most=8))
    """Enlargement of one step, height and width; the model is applied over and over to reach a
    scale."""
    noise_amplitude: float
    """Standard deviation of the noise in training, in units of [-1, 1] pictures; inference uses
    none."""
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
    """Version of vsr."""
    distillation: Distillation | None = None
    """Teaching of a student; None for a model that was trained on the keyframe itself."""
    kernel: KernelTaps | None = None
    """Blur kernel of half the size that the model was trained with; None: bicubic."""
    remark: str = ""
    """Note for the user on the training, such as that it was stopped early."""

    def __post_init__(self) -> None:
        check_kernel(self.kernel)

    @property
    def system(self) -> str:
        """One of `SYSTEMS`, to which the model belongs."""
        family = self.arch.partition("-")[0]
        return "kernelgan" if family == "zssr" and self.kernel is not None else family

    @property
    def step_ratio(self) -> float:
        """Enlargement of one step."""
        return self.scale_factors[0]

    @property
    def is_student(self) -> bool:
        """True for a model that was distilled from others."""
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
    """Pick the models of a system; where none is named, those of the first of `SYSTEMS` that the
    bank has."""
    # In the order of SYSTEMS, so that the choice does not depend on the names of files.
    held = {model.card.system for model in models}
    wanted = next((name for name in SYSTEMS if name in held), None) if system is None else system
    return [model for model in models if model.card.system == wanted]


def save_model(path: Path, card: ModelCard, generator: Generator, critic: Critic | None) -> None:
    """Write a model under its name only when it is whole."""
    write_atomically(path, encode_networks(card, _by_prefix(generator, critic)))


def load_bank(folder: Path) -> list[Model]:
    """Read all models of a folder, by name. Raises `ModelError` for a missing folder, a broken file
    or an old pickle."""
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
    # Refused whatever else the folder holds: nobody should believe that it is used.
    pickles = sorted(path.name for path in files if path.suffix in {".pth", ".pt", ".pkl", ".ckpt"})
    if pickles:
        raise ModelError(
            f"{folder} holds {pickles[0]}, a pickle that could run code on loading; a bank holds "
            ".safetensors files only. Move it away or train the model anew."
        )
    return [load_model(path) for path in bank_files(folder)]


def bank_files(folder: Path) -> list[Path]:
    """List the keyframe models of a folder, by name; hidden ones are unfinished and left out."""
    return sorted(
        path
        for path in folder.glob("*.safetensors")
        if not path.name.startswith(".") and not is_shot_model(path)
    )


def is_shot_model(path: Path) -> bool:
    """Tell whether the name is that of a shot model."""
    return path.name.endswith(SHOT_MODEL_SUFFIX)


def has_shot_model(folder: Path) -> bool:
    """Tell whether a bank holds a shot model."""
    return any(not path.name.startswith(".") for path in folder.glob(f"*{SHOT_MODEL_SUFFIX}"))


def load_model(path: Path) -> Model:
    """Read one model and check everything: size, metadata, tensor names, shapes, types, finite
    values.

    Raises `ModelError` that names the file and what is wrong with it.
    """
    metadata, tensors = read_tensors(path)
    card = card_from_metadata(ModelCard, path, metadata)
    generator = Generator(card.network)
    critic = None if card.critic_mean is None else Critic(card.network)
    fill_networks(path, tensors, _by_prefix(generator, critic))
    return Model(path.stem, card, generator, critic)


def load_card(path: Path) -> ModelCard:
    """Read and check only the metadata of a model file."""
    return card_from_metadata(ModelCard, path, read_metadata(path))


def _by_prefix(generator: Generator, critic: Critic | None) -> dict[str, nn.Module]:
    """Name the networks as the tensors of a file begin."""
    return {"generator.": generator} | ({} if critic is None else {"critic.": critic})
