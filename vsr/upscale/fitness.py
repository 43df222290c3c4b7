"""Fitness of a model for a frame, judged from the frame alone: by its critic, or by what its
generator restores."""

import torch
import torch.nn.functional as F

from vsr.engine.generator import FastGenerator
from vsr.errors import ModelError
from vsr.image.blur import FACTOR, reduce_blurred, taps_to_tensor
from vsr.image.resample import resize
from vsr.models.bank import Model
from vsr.models.networks import on_device


def dsrf(model: Model, pixels: torch.Tensor) -> float:
    """Discriminator super-resolution fitness of SinGANxSR: <D(frame)> - <D(keyframe)>, signed; 0
    fits best.

    `pixels` is the low-resolution frame, (3, H, W) in [0, 1]. The critic is in eval mode: with the
    frame's own statistics in its normalization every frame would look like the keyframe. Raises
    `ModelError` for a frame smaller than the critic's patch.
    """
    assert model.critic is not None, "checked by whoever asks"
    assert model.card.critic_mean is not None
    smallest = 2 * model.critic.spec.halo + 1
    if min(pixels.shape[-2:]) < smallest:
        raise ModelError(
            f"the clip is {pixels.shape[-1]}x{pixels.shape[-2]}; a critic needs {smallest} pixels "
            "a side. Use another policy."
        )
    with torch.inference_mode():
        scores = on_device(model.critic, pixels.device)((2 * pixels - 1)[None])
    return float(scores.mean()) - model.card.critic_mean


def restoration_error(generator: FastGenerator, pixels: torch.Tensor) -> float:
    """Mean absolute error, in [0, 1] units, of the frame restored by one step from its own
    reduction by that step.

    Ranks models by quality far better than DSRF does, since it tests the generator on its actual
    task.
    """
    kernel = generator.step_options.kernel
    if kernel is not None:
        pixels = pixels[
            :, : pixels.shape[-2] // FACTOR * FACTOR, : pixels.shape[-1] // FACTOR * FACTOR
        ]
    height, width = pixels.shape[-2:]
    # The frame plays the truth: it is reduced as the clip is taken to have been.
    if kernel is not None:
        low = reduce_blurred(pixels, taps_to_tensor(kernel))
    else:
        low = resize(
            pixels,
            max(1, round(height / generator.step_ratio)),
            max(1, round(width / generator.step_ratio)),
        )
    with torch.inference_mode():
        restored = generator.add_detail(resize(low, height, width)).clamp(0, 1)
    return float(F.l1_loss(restored, pixels))
