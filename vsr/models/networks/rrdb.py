"""RRDB, the generator of ESRGAN (Wang et al., 2018), as spandrel has it."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class RrdbSpec:
    """Shape of an RRDB network; 23 blocks of width 64 are the published one."""

    width: int = 64
    blocks: int = 23
    scale: int = 4
    """A power of 2."""

    @property
    def receptive_radius_px(self) -> int:
        """How far, in input pixels, an output pixel sees: 15 convolutions to a block."""
        return 3 + 15 * self.blocks


def rrdb(spec: RrdbSpec = RrdbSpec()) -> nn.Module:
    """RGB (N, 3, h, w) in [0, 1] -> (N, 3, scale h, scale w), not clamped."""
    from spandrel.architectures.ESRGAN import ESRGAN

    network: nn.Module = ESRGAN(num_filters=spec.width, num_blocks=spec.blocks, scale=spec.scale)
    for name, module in network.named_modules():
        # As published: dense blocks that start near zero leave a deep network near the identity.
        if isinstance(module, nn.Conv2d) and ".RDB" in name:
            nn.init.kaiming_normal_(module.weight)
            module.weight.data.mul_(0.1)
    return network
