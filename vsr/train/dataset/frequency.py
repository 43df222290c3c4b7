"""Spectral losses of batches (N, C, H, W)."""

import torch
import torch.nn.functional as F

_MIN_POWER = 1e-8


def fft_loss(result: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """||F(result) - F(truth)|| / max(||F(result)||, ||F(truth)||), in [0, 2]; the mean over the
    batch.

    With the L2 norm of complex spectra this would be the relative L2 distance of the pixels
    themselves (Parseval), so the norm here is L1: the sum of moduli, over frequencies and colours.
    """
    of_result, of_truth = (torch.fft.rfft2(pictures.float()) for pictures in (result, truth))
    distance = (of_result - of_truth).abs().sum(dim=(1, 2, 3))
    largest = torch.maximum(of_result.abs().sum(dim=(1, 2, 3)), of_truth.abs().sum(dim=(1, 2, 3)))
    loss: torch.Tensor = (distance / largest).mean()
    return loss


def spectral_loss(result: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the azimuthal mean spectra (Durall et al., CVPR 2020), less that of the
    truth with itself.

    The published code computes the profile outside of the graph, so that no gradient comes through;
    here it does.
    """
    of_result, of_truth = azimuthal_profile(result), azimuthal_profile(truth).detach()
    entropy = F.binary_cross_entropy(of_truth.clamp(0, 1), of_truth.clamp(0, 1))
    return F.binary_cross_entropy(of_result.clamp(0, 1), of_truth.clamp(0, 1)) - entropy


def focal_frequency_loss(result: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean of w |F(result) - F(truth)|^2, w = |F(result) - F(truth)| over its greatest, without
    gradient, alpha 1."""
    distance = (
        torch.fft.fft2(result.float(), norm="ortho") - torch.fft.fft2(truth.float(), norm="ortho")
    ).abs()
    weights = (distance / distance.amax(dim=(2, 3), keepdim=True).clamp_min(_MIN_POWER)).detach()
    loss: torch.Tensor = (weights * distance**2).mean()
    return loss


def azimuthal_profile(pictures: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) -> (N, rings): mean log power of the grey picture over each ring, brought to
    0..1; with gradient."""
    height, width = pictures.shape[-2:]
    shorter = min(height, width)
    power = torch.fft.fft2(pictures.float().mean(dim=1)).abs() ** 2
    rows, columns = torch.fft.fftfreq(height), torch.fft.fftfreq(width)
    rings = (
        (torch.hypot(rows[:, None], columns) * shorter).round().long().flatten().to(pictures.device)
    )
    count = shorter // 2 + 1
    inside = rings < count
    logs = torch.log(power.flatten(1) + _MIN_POWER)[:, inside]
    sums = logs.new_zeros(len(pictures), count).index_add(1, rings[inside], logs)
    means = sums / torch.bincount(rings[inside], minlength=count)
    least, most = means.amin(dim=1, keepdim=True), means.amax(dim=1, keepdim=True)
    return (means - least) / (most - least).clamp_min(_MIN_POWER)
