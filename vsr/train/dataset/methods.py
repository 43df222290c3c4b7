"""The methods of `vsr train`: a network and the training that suits it, with the user's settings.
Adding one takes one entry."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vsr.errors import ModelError, UsageError
from vsr.models.networks.classic import EspcnSpec, FsrcnnSpec, SrcnnSpec
from vsr.models.networks.srgan import RrdbSpec, SrresnetSpec
from vsr.records import to_table, with_settings
from vsr.train.dataset.losses import is_adversarial, min_crop_px
from vsr.train.dataset.options import LossOptions, TrainingOptions
from vsr.train.dataset.perceptual import missing_weights
from vsr.upscale.networks.files import ARCHITECTURES

NETWORK_PREFIX = "network."
PRIOR_METHOD = "shot-prior"
"""Makes no network for `--upscaler`, but the prior of shot models; see `prior.py`."""


@dataclass(frozen=True)
class DatasetMethod:
    """A network to train, and how unless the user says otherwise."""

    arch: str
    network: Any
    """The spec of its network."""
    options: TrainingOptions


_SMALL = TrainingOptions(
    batch=16, crop_px=64, learning_rate=1e-3, last_layer_rate=0.1, halve_at=(0.5, 0.8)
)

_ESRGAN = TrainingOptions(
    crop_px=128,
    learning_rate=1e-4,
    halve_at=(0.125, 0.25, 0.5, 0.75),
    adversarial_start=0.5,
    losses=LossOptions(pixel="l1", pixel_weight=1e-2, adversarial_weight=5e-3),
)

METHODS: dict[str, DatasetMethod] = {
    "srcnn": DatasetMethod("srcnn", SrcnnSpec(), _SMALL),
    "fsrcnn": DatasetMethod("fsrcnn", FsrcnnSpec(), _SMALL),
    "espcn": DatasetMethod("espcn", EspcnSpec(), _SMALL),
    "srresnet": DatasetMethod("srresnet", SrresnetSpec(), TrainingOptions(learning_rate=1e-4)),
    "srgan": DatasetMethod(
        "srresnet",
        SrresnetSpec(),
        TrainingOptions(
            learning_rate=1e-4,
            tenth_at=(0.5,),
            second_moment_decay=0.999,
            discriminator="srgan",
            losses=LossOptions(
                perceptual="vgg54", pixel_weight=0.0, adversarial="gan", adversarial_weight=1e-3
            ),
        ),
    ),
    "esrgan": DatasetMethod(
        "rrdb",
        RrdbSpec(),
        replace(
            _ESRGAN,
            losses=replace(_ESRGAN.losses, perceptual="vgg54_esrgan", adversarial="ragan"),
        ),
    ),
    "esrgan-fft": DatasetMethod(
        "rrdb",
        RrdbSpec(),
        replace(
            _ESRGAN,
            losses=replace(_ESRGAN.losses, perceptual="lpips", adversarial="ragp", fft_weight=0.5),
        ),
    ),
    "stochastic": DatasetMethod(
        "srresnet",
        SrresnetSpec(batch_norm=False, noise_channels=4, residual=True),
        TrainingOptions(
            learning_rate=2e-4,
            consistency_passes=2,
            adversarial_start=0.5,
            losses=LossOptions(
                pixel="l1",
                adversarial="ragan",
                adversarial_weight=5e-3,
                consistency_weight=10.0,
                diversity_weight=0.01,
            ),
        ),
    ),
}


@dataclass(frozen=True)
class Plan:
    """Everything that decides what comes out of a training, but for the device."""

    method: str
    network: dict[str, Any]
    options: dict[str, Any]
    seed: int
    pictures: str
    """Hash of their names and sizes in bytes."""
    validation: str
    start: str
    """Hash of the file whose weights it begins with; empty without one."""


def resolve_method(name: str, scale: int, settings: Sequence[str]) -> DatasetMethod:
    """Look up the method of that name, with "key=value" settings over it; keys of its network begin
    with `network.`

    Raises `UsageError` for a name or key that is not known and for what cannot go together.
    """
    if name not in METHODS:
        raise UsageError(f"unknown method {name}; known: {', '.join([*METHODS, PRIOR_METHOD])}.")
    method = METHODS[name]
    shape = [
        each.removeprefix(NETWORK_PREFIX) for each in settings if each.startswith(NETWORK_PREFIX)
    ]
    # The scale first, so that `--set network.scale` may still change it.
    network = with_settings(method.network, [f"scale={scale}", *shape])
    options = with_settings(
        method.options, [each for each in settings if not each.startswith(NETWORK_PREFIX)]
    )
    losses = options.losses
    wants_colors = (
        losses.perceptual != "none" or is_adversarial(losses) or losses.diversity_weight > 0
    )
    if ARCHITECTURES[method.arch].luma is not None and wants_colors:
        raise UsageError(
            f"{name} works on luma only; perceptual, adversarial and diversity losses need RGB."
        )
    if losses.diversity_weight > 0 and not getattr(network, "noise_channels", 0):
        raise UsageError(
            "losses.diversity_weight needs a network with noise, such as that of --method "
            "stochastic."
        )
    # Two pixels of low resolution at least, and as much as the deepest loss looks at.
    least = max(min_crop_px(losses), 2 * network.scale)
    if options.crop_px < least:
        raise UsageError(
            f"crop_px is {options.crop_px}; these losses and x{network.scale} need {least} or more."
        )
    return DatasetMethod(method.arch, network, options)


def without_missing_weights(
    name: str, method: DatasetMethod, settings: Sequence[str], notify: Callable[[str], None]
) -> DatasetMethod:
    """Put features of random weights in the place of those whose file is missing, and say so.

    A network that the user named among the settings stays, and is missed when it is loaded.
    """
    named = {setting.partition("=")[0] for setting in settings}
    losses = method.options.losses
    wanted = {
        "perceptual": (losses.perceptual, losses.perceptual_weight),
        "diversity_features": ("diversity_features", losses.diversity_weight),
    }
    settings_of_random = []
    for field, (network, weight) in wanted.items():
        advice = missing_weights(network) if weight > 0 else ""
        if advice and f"losses.{field}" not in named:
            settings_of_random.append(f"losses.{field}=random")
            notify(
                f"{name} is published with other weights than are here: {advice}. Features of "
                f"random weights take their place (losses.{field}=random)."
            )
    return replace(method, options=with_settings(method.options, settings_of_random))


def make_plan(
    name: str,
    method: DatasetMethod,
    seed: int,
    pictures: Sequence[Path],
    validation: Sequence[Path],
    start: Path | None,
) -> Plan:
    """Describe a training. Raises `ModelError` where the file to start from cannot be read."""
    try:
        began = "" if start is None else hashlib.sha256(start.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(
            f"the weights to start from, {start}, cannot be read: {error.strerror}."
        ) from None
    network, options = to_table(method.network), to_table(method.options)
    return Plan(
        name,
        network,
        options,
        seed,
        pictures_identity(pictures),
        pictures_identity(validation),
        began,
    )


def pictures_identity(paths: Sequence[Path]) -> str:
    """Hash the names and sizes in bytes of pictures."""
    # By name and size: to hash the contents every file would have to be read.
    lines = [f"{path.name} {path.stat().st_size}" for path in paths]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
