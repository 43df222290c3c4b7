"""Scratches drawn on clean excerpts: how many are found, what is left of them, and whether any is
found where there is none.

    python -m benchmarks.scratches --frames 24 --clips walk street swan city cockatoo friday
    python -m benchmarks.scratches --frames 24 --clean
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from benchmarks.clips import EXCERPTS, use_shared_data
from benchmarks.measure import options_parser, print_table
from vsr.image.resample import resize
from vsr.restore.scratch_removal import PROBE_FRAMES, ScratchRemoval
from vsr.restore.scratches import find_scratches

SCRATCHES = ((0.14, 1, 235.0), (0.45, 2, 20.0), (0.74, 3, 235.0))
"""Columns over the width, widths in pixels and levels of what is drawn."""
MAX_DRIFT, MAX_WEAVING, OPACITY = 0.1, 0.2, 0.8
NEAR_PX = 5
"""Distance up to which a scratch that is found is one that was drawn."""


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--clips", nargs="+", choices=EXCERPTS, default=list(EXCERPTS))
    parser.add_argument("--clean", action="store_true", help="Look at clean clips alone.")
    options = parser.parse_args()
    use_shared_data()
    rows = []
    for name in options.clips:
        if options.clean:
            found = [
                sum(len(find_scratches(part)) for part in _parts(pictures(name, factor)))
                for factor in (1, 2, 4)
            ]
            rows.append([name, *map(str, found)])
        else:
            rows.append(with_scratches(name, options.frames or PROBE_FRAMES))
        print(*rows[-1], flush=True)
    if options.clean:
        print_table("**No scratches**", ["clip", "found", "at half size", "at a quarter"], rows)
    else:
        columns = ["clip", "size", "found", "left of these", "left of all", "clean pixels changed"]
        print_table("**Three scratches**", columns, rows)


def pictures(name: str, factor: int = 1) -> Iterator[np.ndarray]:
    """The excerpt's frames, (3, H, W) in gray levels, reduced `factor` times."""
    for whole in EXCERPTS[name].pictures():
        height, width = (side // factor for side in whole.shape[-2:])
        picture = whole if factor == 1 else resize(whole, height, width)
        yield np.rint(255 * picture.clamp(0, 1).numpy()).astype(np.float32)


def _parts(frames: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    while part := list(islice(frames, PROBE_FRAMES)):
        yield part


def with_scratches(name: str, count: int) -> list[str]:
    """Draw scratches on a clip and remove them."""
    clean = list(islice(pictures(name), count))
    drawn, covers = scratched(clean)
    found = find_scratches(drawn[:PROBE_FRAMES])
    removal = ScratchRemoval()
    made = list(removal.through(drawn))
    width = clean[0].shape[-1]
    is_found = [
        any(abs(each.columns[0] - share * width) < NEAR_PX for each in found)
        for share, *_ in SCRATCHES
    ]
    # By scratch, before and after.
    errors = np.zeros((len(SCRATCHES), 2))
    changed = free = 0
    for truth, before, after, cover in zip(clean, drawn, made, covers, strict=True):
        for index, mask in enumerate(cover):
            errors[index] += [np.abs(each - truth)[:, mask].sum() for each in (before, after)]
        outside = ~np.logical_or.reduce(cover)
        changed += int((np.abs(after - before).max(axis=0) > 2)[outside].sum())
        free += int(outside.sum())
    of_found, of_all = errors[is_found].sum(axis=0), errors.sum(axis=0)
    return [
        name,
        f"{width}x{clean[0].shape[-2]}",
        f"{sum(is_found)} of {len(SCRATCHES)}",
        f"{of_found[1] / of_found[0]:.2f}" if any(is_found) else "-",
        f"{of_all[1] / of_all[0]:.2f}",
        f"{100 * changed / free:.3f} %",
    ]


def scratched(clean: list[np.ndarray]) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:
    """Pictures with scratches that drift, weave and fade, and what each of them covers."""
    random = np.random.default_rng(3)
    height, width = clean[0].shape[-2:]
    down, across = np.mgrid[:height, :width]
    drifts = random.uniform(-MAX_DRIFT, MAX_DRIFT, len(SCRATCHES))
    slants = random.uniform(-0.01, 0.01, len(SCRATCHES)) * height
    made, covers = [], []
    for frame, picture in enumerate(clean):
        canvas, masks = picture.copy(), []
        for index, (share, thick, level) in enumerate(SCRATCHES):
            column = share * width + drifts[index] * frame
            column += random.uniform(-MAX_WEAVING, MAX_WEAVING)
            line = column + slants[index] * (down / height - 0.5)
            cover = np.clip(thick / 2 + 0.5 - np.abs(across - line), 0, 1)
            masks.append(cover > 0)
            fading = 0.8 + 0.2 * np.sin(down / 17 + index)
            alpha = OPACITY * random.uniform(0.75, 1) * fading * cover
            canvas = canvas * (1 - alpha) + level * alpha
        made.append(np.rint(canvas).astype(np.float32))
        covers.append(masks)
    return made, covers


if __name__ == "__main__":
    main()
