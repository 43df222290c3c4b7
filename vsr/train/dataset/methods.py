"""The methods of `vsr train`: a network and the training that suits it. Adding one takes one
entry."""

from dataclasses import dataclass
from typing import Any

from vsr.models.networks.espcn import EspcnSpec
from vsr.models.networks.fsrcnn import FsrcnnSpec
from vsr.models.networks.rrdb import RrdbSpec
from vsr.models.networks.srcnn import SrcnnSpec
from vsr.models.networks.srresnet import SrresnetSpec
from vsr.train.dataset.options import LossOptions, TrainingOptions


@dataclass(frozen=True)
class DatasetMethod:
    """What is trained, and how unless the user says otherwise."""

    arch: str
    network: Any
    """The spec of its network."""
    options: TrainingOptions


_SMALL = TrainingOptions(
    batch=16, crop_px=64, learning_rate=1e-3, last_layer_rate=0.1, halve_at=(0.5, 0.8)
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
            halve_at=(0.5,),
            losses=LossOptions(
                perceptual="vgg54", pixel_weight=0.0, adversarial="gan", adversarial_weight=1e-3
            ),
        ),
    ),
    "esrgan": DatasetMethod(
        "rrdb",
        RrdbSpec(),
        TrainingOptions(
            crop_px=128,
            learning_rate=1e-4,
            halve_at=(0.125, 0.25, 0.5, 0.75),
            adversarial_start=0.5,
            losses=LossOptions(
                pixel="l1",
                pixel_weight=1e-2,
                perceptual="lpips",
                adversarial="ragp",
                adversarial_weight=5e-3,
                fft_weight=0.5,
            ),
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
