"""Overshoot at strong edges, limited to what lies beside them.

Networks and back-projection leave a light or dark line along strong edges. Where a neighborhood of
the input has two levels and little else, as beside the edge of a thing against a plain ground, the
result may leave the range between them by a small share of the step alone. Texture, lines and
corners have no such two levels and are not touched.
"""

import numpy as np
import torch
import torch.nn.functional as F

from vsr.image.luma import luma

WINDOW_PX = 7
"""Side of the neighborhood in the input."""
MIN_STEP = 40 / 255
"""Least difference of the two levels."""
MAX_SPREAD = 0.03
"""Mean distance of pixels from the level on their side, over the step, beyond which there are no
two levels."""
MIN_SHARE = 0.25
"""Share of the neighborhood's pixels that lie on either side: a line one pixel wide has less, and
its brightness in the input is not what it has in the result."""
ALLOWED = 0.02
"""Share of the step by which the result may go beyond the two levels."""
ON_LEVEL = 0.7
"""Share of the neighborhood's pixels that must be near a level; the others lie on the edge."""
MAX_WINDOWS = 8192
"""Neighborhoods that are looked at together on a CPU."""


def limit_overshoot(picture: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """Limit the luma of a picture (3, H, W) beside strong edges of the input `low`, (3, h, w); all
    channels are moved alike, and the result lies in [0, 1]."""
    least, most = edge_levels(luma(low))
    size = picture.shape[-2:]
    # Nearest: levels are infinite off the edges, and infinity times 0 is not a number.
    least, most = (
        F.interpolate(level[None, None], size, mode="nearest")[0, 0] for level in (least, most)
    )
    own = luma(picture)
    # In place: these are as large as the result.
    change = torch.maximum(own, least, out=least)
    change = torch.minimum(change, most, out=change).sub_(own)
    if not change.any():
        return picture
    return (picture + change).clamp_(0, 1)


def edge_levels(gray: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tell the range that a result may have at each pixel of a luma (h, w); boundless where there
    is no strong edge."""
    margin, count = WINDOW_PX // 2, WINDOW_PX**2
    padded = F.pad(gray[None, None], (margin,) * 4, mode="replicate")
    dimmest, brightest = -_window_maximum(-padded), _window_maximum(padded)
    least = torch.full_like(gray, -torch.inf)
    most = torch.full_like(gray, torch.inf)
    rows, columns = (brightest - dimmest > MIN_STEP).nonzero(as_tuple=True)
    windows = padded[0, 0].unfold(0, WINDOW_PX, 1).unfold(1, WINDOW_PX, 1)
    middle = (dimmest + brightest) / 2
    # On a CPU some at a time, for all windows of a large frame take more memory than the frame.
    at_once = MAX_WINDOWS if gray.device.type == "cpu" else max(1, len(rows))
    for places in zip(rows.split(at_once), columns.split(at_once), strict=True):
        found, dark, light = _two_levels(windows[places].reshape(-1, count), middle[places])
        step = light - dark
        edges = places[0][found], places[1][found]
        least[edges], most[edges] = dark - ALLOWED * step, light + ALLOWED * step
    return least, most


def _two_levels(
    around: torch.Tensor, middle: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Find those of N neighborhoods, (N, pixels) with `middle` (N) between their extremes, that
    have two levels and little else: their indices, the dark levels and the light ones."""
    count = around.shape[1]
    lights = (around > middle[:, None]).sum(dim=1)
    # Before anything is sorted, which is what takes the time: texture mostly fails here.
    fits = ((lights > MIN_SHARE * count) & (lights < (1 - MIN_SHARE) * count)).nonzero()[:, 0]
    around, lights = _sorted(around[fits]), lights[fits]
    darks = count - lights
    # The median of either side: an overshoot of the input itself does not move it.
    dark = around.gather(1, ((darks - 1) // 2)[:, None])
    light = around.gather(1, (darks + (lights - 1) // 2)[:, None])
    distance = _sorted(torch.minimum((around - light).abs(), (around - dark).abs()))
    near = distance[:, : round(ON_LEVEL * count)].mean(dim=1)
    dark, light = dark[:, 0], light[:, 0]
    step = light - dark
    is_edge = (step > MIN_STEP) & (near < MAX_SPREAD * step)
    return fits[is_edge], dark[is_edge], light[is_edge]


def _window_maximum(padded: torch.Tensor) -> torch.Tensor:
    """Find the maximum of each window of (1, 1, H, W), rows first, then columns."""
    by_rows = F.max_pool2d(padded, (1, WINDOW_PX), stride=1)
    return F.max_pool2d(by_rows, (WINDOW_PX, 1), stride=1)[0, 0]


def _sorted(rows: torch.Tensor) -> torch.Tensor:
    """Sort each row. NumPy's sort is several times as fast as torch's, which makes indices too."""
    if rows.device.type != "cpu":
        return rows.sort(dim=1).values
    return torch.from_numpy(np.sort(rows.numpy(), axis=1))
