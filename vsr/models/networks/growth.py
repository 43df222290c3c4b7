"""Larger shot networks that begin as the function of a smaller one (Chen, Goodfellow, Shlens,
"Net2Net", ICLR 2016)."""

from dataclasses import replace

import torch

from vsr.models.networks.shot_network import ShotNetwork, ShotNetworkSpec


def can_grow(small: ShotNetworkSpec, large: ShotNetworkSpec) -> bool:
    """Whether a network of the one shape can become one of the other: wider or as wide, and alike
    in all else."""
    return large.width >= small.width and replace(large, width=small.width) == small


def grow(network: ShotNetwork, spec: ShotNetworkSpec) -> ShotNetwork:
    """Make a wider network, of a shape for which `can_grow` holds, that restores the same.

    The first channels of each layer hold the weights of `network`. What comes into the others is
    drawn from torch's random numbers; what the old channels take from them is zero, until a
    training finds a use for them.
    """
    assert can_grow(network.spec, spec), "only wider networks hold a smaller one"
    grown = ShotNetwork(spec)
    with torch.no_grad():
        for layer, own in zip(grown.body, network.body, strict=True):
            (weight, bias), (own_weight, own_bias) = layer.parameters(), own.parameters()
            outputs, inputs = own_weight.shape[:2]
            weight[:outputs] = 0
            weight[:outputs, :inputs] = own_weight
            bias[:outputs] = own_bias
    return grown
