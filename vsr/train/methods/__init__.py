"""Ways to train a model on one keyframe. A new one is a file with an options dataclass and a
`GeneratorTraining`, and an entry."""

import torch

from vsr.errors import InputError
from vsr.train.methods.batched import QUICK_BATCHED
from vsr.train.methods.method import Method
from vsr.train.methods.quick import QuickOptions, QuickTraining
from vsr.train.methods.singan import (
    FAITHFUL_BATCHED,
    FaithfulOptions,
    PyramidOptions,
    begin_faithful,
)
from vsr.train.methods.zssr import ZSSR_AS_PUBLISHED, ZssrOptions, ZssrTraining
from vsr.train.methods.zssrgan import ZSSRGAN_AS_PUBLISHED, ZssrGanOptions, begin_zssrgan

MIN_SIDE_PX = 32
MIN_CONTRAST = 2 / 255
"""Standard deviation of luma below which a keyframe holds nothing to learn from."""


METHODS: dict[str, Method] = {
    "quick": Method(
        "singan-quick",
        QuickOptions(),
        QuickTraining,
        uses_neighbors=True,
        batched=QUICK_BATCHED,
    ),
    "faithful": Method(
        "singan-single-scale", FaithfulOptions(), begin_faithful, batched=FAITHFUL_BATCHED
    ),
    "pyramid": Method("singan-pyramid", PyramidOptions(), begin_faithful, batched=FAITHFUL_BATCHED),
    "zssr": Method("zssr", ZssrOptions(), ZssrTraining, full=ZSSR_AS_PUBLISHED, count=1),
    "zssrgan": Method(
        "zssrgan", ZssrGanOptions(), begin_zssrgan, full=ZSSRGAN_AS_PUBLISHED, count=1
    ),
}


def check_keyframe(keyframe: torch.Tensor) -> None:
    """Refuse, with `InputError`, a (3, H, W) keyframe that no method can learn from."""
    height, width = keyframe.shape[-2:]
    if min(height, width) < MIN_SIDE_PX:
        raise InputError(
            f"the keyframe is {width}x{height}; training needs at least {MIN_SIDE_PX} pixels a "
            "side. Use vsr run --policy bicubic for a clip this small."
        )
    if keyframe.mean(dim=0).std().item() < MIN_CONTRAST:
        raise InputError(
            "the keyframe is one flat color; training needs a frame with texture. Choose another "
            "with --keyframe N."
        )
