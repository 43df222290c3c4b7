"""Overshoot at strong edges, limited to what lies beside them.

Networks and back-projection leave a light or dark line along strong edges. Where a neighborhood of
the input has two levels and little else, as beside the edge of a thing against a plain ground, the
result may leave the range between them by a small share of the step alone. Texture, lines and
corners have no such two levels and are not touched.
"""

import torch
import torch.nn.functional as F

WINDOW_PX = 7
"""Side of the neighborhood in the input."""
MIN_STEP = 40 / 255
"""Least difference of the two levels."""
MAX_SPREAD = 0.03
"""Mean distance of pixels from the level on their side, over the step, beyond which there are no
two levels."""
MIN_SHARE = 0.25
"""Of the neighborhood's pixels that lie on either side: a line one pixel wide has less, and its
brightness in the input is not what it has in the result."""
ALLOWED = 0.02
"""Share of the step by which the result may go beyond the two levels."""
ON_LEVEL = 0.7
"""Share of the neighborhood's pixels that must be near a level; the others lie on the edge."""
LUMA_WEIGHTS = (0.299, 0.587, 0.114)


def limit_overshoot(picture: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """Limit the luma of a picture (3, H, W) beside strong edges of the input `low`, (3, h, w); all
    channels are moved alike, and the result lies in [0, 1]."""
    weights = low.new_tensor(LUMA_WEIGHTS)
    least, most = edge_levels(torch.einsum("c,chw->hw", weights, low))
    size = picture.shape[-2:]
    # Nearest: levels are infinite off the edges, and infinity times 0 is not a number.
    least, most = (
        F.interpolate(level[None, None], size, mode="nearest")[0, 0] for level in (least, most)
    )
    luma = torch.einsum("c,chw->hw", weights, picture)
    change = torch.minimum(torch.maximum(luma, least), most) - luma
    if not change.any():
        return picture
    return (picture + change).clamp(0, 1)


def edge_levels(luma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tell the range that a result may have at each pixel of a luma (h, w); boundless where there
    is no strong edge."""
    margin = WINDOW_PX // 2
    padded = F.pad(luma[None, None], (margin,) * 4, mode="replicate")
    around = F.unfold(padded, WINDOW_PX)[0]
    least = torch.full(around.shape[1:], -torch.inf, device=luma.device)
    most = -least
    dimmest, brightest = around.amin(dim=0), around.amax(dim=0)
    strong = (brightest - dimmest > MIN_STEP).nonzero()[:, 0]
    if len(strong):
        around = around[:, strong]
        is_light = around > (dimmest + brightest)[strong] / 2
        share = is_light.float().mean(dim=0)
        # The median of either side: an overshoot of the input itself does not move it.
        light = torch.where(is_light, around, torch.nan).nanmedian(dim=0).values
        dark = torch.where(is_light, torch.nan, around).nanmedian(dim=0).values
        step = light - dark
        distance = torch.minimum((around - light).abs(), (around - dark).abs())
        near = distance.sort(dim=0).values[: round(ON_LEVEL * len(around))]
        is_edge = (step > MIN_STEP) & (near.mean(dim=0) < MAX_SPREAD * step)
        is_edge &= (share > MIN_SHARE) & (share < 1 - MIN_SHARE)
        least[strong] = torch.where(is_edge, dark - ALLOWED * step, -torch.inf)
        most[strong] = torch.where(is_edge, light + ALLOWED * step, torch.inf)
    return least.view_as(luma), most.view_as(luma)
