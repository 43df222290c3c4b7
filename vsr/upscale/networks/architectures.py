"""The networks that `vsr train` makes. Adding one takes one file in `vsr.models.networks` and one
entry."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from vsr.models.networks.espcn import Espcn, EspcnSpec
from vsr.models.networks.fsrcnn import Fsrcnn, FsrcnnSpec
from vsr.models.networks.rrdb import RrdbSpec, rrdb
from vsr.models.networks.srcnn import Srcnn, SrcnnSpec
from vsr.models.networks.srresnet import Srresnet, SrresnetSpec
from vsr.upscale.networks.network import STUDIO_RANGE, LumaRange


@dataclass(frozen=True)
class Architecture:
    """A family of networks."""

    spec: type[Any]
    """A frozen dataclass with at least `scale` and `receptive_radius_px`."""
    build: Callable[[Any], nn.Module]
    luma: LumaRange | None = None
    """None: RGB."""
    enlarged_first: bool = False


ARCHITECTURES: dict[str, Architecture] = {
    "srcnn": Architecture(SrcnnSpec, Srcnn, STUDIO_RANGE, enlarged_first=True),
    "fsrcnn": Architecture(FsrcnnSpec, Fsrcnn, STUDIO_RANGE),
    "espcn": Architecture(EspcnSpec, Espcn, STUDIO_RANGE),
    "srresnet": Architecture(SrresnetSpec, Srresnet),
    "rrdb": Architecture(RrdbSpec, rrdb),
}
