"""The data term: how far a picture is pulled towards agreement with its input.

Exact back-projection copies the input's errors into the result. Errors of compression are at most
about half a quantizer step in each coefficient of the codec's transform, camera noise has a
standard deviation: a residual below these says nothing, and only what exceeds them is fed back.
The transform is that of H.264, 4x4, taken at every shift so that no block grid of its own shows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import hypot
from typing import Literal

import torch
import torch.nn.functional as F

from vsr.engine.resampling import back_project_in_place
from vsr.image.block_transform import block_basis
from vsr.image.blur import Blur
from vsr.image.degradation import CLEAN_SHOT, GaussianBlur, KnownDegradation
from vsr.image.gaussian_blur import spread
from vsr.image.luma import LUMA_WEIGHTS, luma
from vsr.video.read.quantizers import h264_step
from vsr.video.step import FULL_TRUST, Degradation, Trust

BLOCK_PX = 4
QUANTIZER_SHARE = 0.2
"""Threshold over the quantizer step: a coefficient's rounding error is at most half a step, and
mostly far less. .3 loses .02 dB at crf 23 and .04 dB with x265, and gains .03 dB with MPEG-2."""
LUMA_NOISE_SHARE, CHROMA_NOISE_SHARE = 1.2, 1.8
"""Thresholds over the standard deviation of camera noise. Color carries less detail and its noise
is seen in large spots, so less of it is believed."""
MIN_NOISE_SIGMA = 2.4
"""Gray levels. Less camera noise is left alone: clean clips show up to 2.1, of flow that misses and
of what their cameras added."""
MIN_QUANTIZER_STEP = 4.0
"""Gray levels. A finer quantizer (H.264: below QP 16) leaves errors near those of 8-bit rounding:
the input counts as clean."""
TRUSTED_QP, DETAIL_LOSS = 31.0, 0.07
"""Quantizer up to which detail of a shot network has no other limit than its errors, and the share
that each further step takes away. Less detail has a better PSNR and flickers less, and looks
softer: at QP 36 (walk, crf 28) .77 of it gives +.42 dB and .63 of the LPIPS of bicubic
interpolation, .65 of it +.50 dB and .67."""
MIN_KNOWN_QP = 33.0
"""Quantizer from which on networks for compressed shots do better than those for clean shots that
were trained on the clip. At QP 30 (crf 23) these have the better LPIPS at the same PSNR, and at
QP 32.7 (bunny, crf 28) both are better."""
MIN_DETAIL = 0.65
"""From QP 36 up: at crf 33, .6 of it gains .07 dB on .72, and loses .04 of LPIPS."""
DETAIL_ERROR_SHARE = 0.07
"""Standard deviation of the errors in the detail of a shot network, over the quantizer step. PSNR
alone would have about .2 of it; LPIPS misses detail of that size, wrong as it is. From
`MIN_KNOWN_QP` on errors grow no more: networks for compressed shots take them for what they are."""
MIN_UNDONE_BLUR_PX = 0.8
"""Blur on its wider axis from which on it is undone. No sharp clip reads more than 0.69 pixels, and
one that is taken for blurred gets halos."""
MIN_UNDONE_CODED_BLUR_PX = 1.0
"""Blur from which on it is undone where the quantizer counts: coding softens too. Clips as they are
found read up to 0.85 pixels up to quantizer 26, and from there on more than 1."""
MAX_UNDONE_BLUR_QP = 26.0
"""Quantizer up to which a blur is undone: it sharpens coding errors as well. Street, blurred by 1.2
pixels, gains 1.21 dB on bicubic interpolation at QP 23 (crf 18) and .52 dB at QP 29, and flickers
1.4 times as much."""
SHARPENING_STEPS = 4
"""Steps by which a blurred frame is sharpened before networks see it. On four clips blurred by 1.1
pixels 0, 2, 4 and 10 steps gain 2.24, 2.31, 2.26 and 1.78 dB on bicubic interpolation, at .57,
.52, .49 and .47 of its LPIPS, and flicker 1.10, 1.11, 1.12 and 1.19 times as much."""
DETAIL_WINDOW_PX = 16
"""Side of the windows, in pixels of the input, that detail is measured over. From 8 pixels to a
whole picture of 96x64 the results are alike; a large frame has flat parts and others."""


@dataclass(frozen=True)
class DataTerm:
    """Pulls a result towards its input. The default trusts the input in full."""

    weight: float = 1.0
    """Share of the residual that is fed back, 0 to 1."""
    trust: Trust = FULL_TRUST

    @property
    def keep(self) -> Callable[[torch.Tensor], torch.Tensor] | None:
        """Function that takes the trusted part out of a residual; None where that is all of it."""
        return None if self.trust.is_full else self.trusted

    def trusted(self, residual: torch.Tensor) -> torch.Tensor:
        """Return the part of a residual that the input's errors do not explain.

        `residual` is (C, h, w) in units of a range of 1, with C of 1 (luma) or a multiple of 3
        (RGB pictures one behind the other).
        """
        luma_threshold = self.trust.luma_threshold / 255
        chroma_threshold = self.trust.chroma_threshold / 255
        if len(residual) == 1:
            return soft_threshold(residual, luma_threshold)
        # Noise and quantizers differ between luma and chroma, so they are taken apart.
        rgb = residual.unflatten(0, (-1, 3))
        own = luma(rgb.transpose(0, 1))
        red, blue = (soft_threshold(rgb[:, channel] - own, chroma_threshold) for channel in (0, 2))
        # Y = .299 R + .587 G + .114 B, so R - Y and B - Y give G - Y.
        green = -(LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[2] * blue) / LUMA_WEIGHTS[1]
        differences = torch.stack([red, green, blue], dim=1)
        return (differences + soft_threshold(own, luma_threshold)[:, None]).flatten(0, 1)

    def believed(self, detail: torch.Tensor, enlarged: float) -> torch.Tensor:
        """Return the part of a shot network's detail, (1, H, W) in units of a range of 1, that is
        believed; its picture is `enlarged` so many times.

        Where errors have a mean square of e^2 and detail one of d^2 around a pixel, that part is
        d^2 / (d^2 + e^2), the gain of Wiener's filter.
        """
        share = self.trust.detail
        if self.trust.detail_error <= 0:
            return share * detail
        window = 2 * round(enlarged * DETAIL_WINDOW_PX / 2)
        # At every half window, from corner to corner: in between, gains change without a seam.
        found = F.avg_pool2d(
            detail[None].square(), window, window // 2, window // 2, count_include_pad=False
        )
        gain = share * found / (found + (self.trust.detail_error / 255) ** 2)
        size = detail.shape[-2:]
        return detail * F.interpolate(gain, size, mode="bilinear", align_corners=True)[0]

    def sharpened(self, low: torch.Tensor, blur: GaussianBlur) -> torch.Tensor:
        """Undo a part of the blur of a frame, (C, h, w), at its own size; in [0, 1].

        Each step finds again what is strong enough to survive the blur, and little noise. Networks
        for clean shots then see about what they know.
        """
        picture = low.clone()
        for _ in range(SHARPENING_STEPS):
            residual = low - spread(picture, blur)
            picture += self.weight * (residual if self.keep is None else self.keep(residual))
        return picture.clamp_(0, 1)

    def back_project(
        self,
        image: torch.Tensor,
        low: torch.Tensor,
        kernel: Blur | None = None,
        *,
        twice: bool = False,
    ) -> torch.Tensor:
        """Pull `image`, (C, H, W), towards agreement with `low`, (C, h, w), in place; in [0, 1].

        `kernel` is the blur that the picture was enlarged for; None: bicubic. `twice` asks for a
        second step, which is made where the input is trusted in full.
        """
        twice = twice and self.trust.is_full
        return back_project_in_place(image, low, self.weight, kernel, twice=twice, keep=self.keep)


CLEAN = DataTerm()


def strength_of(restore: float | Literal["auto"]) -> float:
    """Strength of restoration, 0 to 1; what is found bounds it, so auto is all of it."""
    return 1.0 if restore == "auto" else restore


def is_noisy(degradation: Degradation) -> bool:
    """Tell whether so much camera noise was found that it counts."""
    return degradation.noise_sigma >= MIN_NOISE_SIGMA


def is_coarse(quantizer: float | None) -> bool:
    """Tell whether a quantizer is known, and coarse enough to count."""
    return quantizer is not None and h264_step(quantizer) >= MIN_QUANTIZER_STEP


def trust_for(degradation: Degradation, strength: float = 1.0) -> Trust:
    """Tell how far to trust the input of a shot; `strength`, 0 to 1, scales the thresholds.

    Noise adds to the quantizer's error as independent errors do. Little of either is left alone:
    a clean input must come through as it is.
    """
    qp = degradation.coarsest_qp
    step = 0.0 if qp is None else h264_step(qp)
    coded = QUANTIZER_SHARE * step if is_coarse(qp) else 0.0
    counts_noise = is_noisy(degradation)
    luma, chroma = (
        hypot(coded, share * sigma * counts_noise)
        for share, sigma in (
            (LUMA_NOISE_SHARE, degradation.luma_noise_sigma),
            (CHROMA_NOISE_SHARE, degradation.chroma_noise_sigma),
        )
    )
    noise = degradation.luma_noise_sigma if counts_noise else 0.0
    luma, chroma, noise = (round(strength * level, 3) for level in (luma, chroma, noise))
    detail = 1 - strength * (1 - _believed_detail(qp))
    finest_known = h264_step(MIN_KNOWN_QP)
    error = strength * DETAIL_ERROR_SHARE * min(step, finest_known) if coded else 0.0
    return Trust(luma, chroma, noise, round(detail, 3), round(error, 3))


def known_degradation(degradation: Degradation | None, strength: float = 1.0) -> KnownDegradation:
    """Put a shot's degradation in the terms of networks; `strength`, 0 to 1, brings it nearer to a
    clean shot's."""
    if degradation is None:
        return CLEAN_SHOT
    qp = degradation.coarsest_qp
    if qp is not None and qp >= MIN_KNOWN_QP:
        # Whatever else looks like a blur there: compression does.
        return KnownDegradation(round(strength * qp, 2))
    blur = degradation.gaussian_blur
    least = MIN_UNDONE_CODED_BLUR_PX if is_coarse(qp) else MIN_UNDONE_BLUR_PX
    if blur is None or blur.wide_px < least or strength == 0:
        return CLEAN_SHOT
    # Noise hides how soft a picture is, and would be sharpened, as errors of coding would.
    if is_noisy(degradation) or (qp is not None and qp > MAX_UNDONE_BLUR_QP):
        return CLEAN_SHOT
    return KnownDegradation(blur=blur.scaled(strength))


def _believed_detail(qp: float | None) -> float:
    """Share of the detail of a shot network that is believed at a quantizer."""
    if qp is None:
        return 1.0
    return min(1.0, max(MIN_DETAIL, 1 - DETAIL_LOSS * (qp - TRUSTED_QP)))


def soft_threshold(planes: torch.Tensor, threshold: float) -> torch.Tensor:
    """(N, h, w) with all transform coefficients moved towards 0 by `threshold`, mean of all block
    positions."""
    if threshold <= 0:
        return planes
    basis = block_basis(BLOCK_PX, planes.device)
    margin = BLOCK_PX - 1
    # Edges are repeated: zeros would be steps, and steps are detail to the transform.
    padded = F.pad(planes[:, None], (margin,) * 4, mode="replicate")
    size = padded.shape[-2:]
    # Blocks as columns: two products of matrices take less time than convolutions of one channel.
    coefficients = basis @ F.unfold(padded, BLOCK_PX)
    # c - clamp(c) is the soft threshold.
    coefficients = coefficients.sub_(coefficients.clamp(-threshold, threshold))
    # Folding adds up what all 16 blocks over a pixel say of it.
    total = F.fold(basis.T @ coefficients, size, BLOCK_PX) / BLOCK_PX**2
    return total[:, 0, margin:-margin, margin:-margin]
