"""Vid4 with the published bicubic low resolution, in the conventions of the field's tables.

    python -m benchmarks.vid4 FOLDER [--policies bicubic prior] [--clips calendar ...]

All frames at x4: PSNR-Y with 8 and with 0 pixels off, LPIPS by the backbone that is at hand, and
tOF as TecoGAN's script has it (8 pixels and two frames off each end). `prior` is `--policy shot`
with the shipped prior alone, `shot` the same with models that are trained on the clip, `smi` one
model of its keyframe, with flicker control. `--motion torch` estimates and follows motion as a GPU
does. What lies in FOLDER is not made again.
"""

import json
from argparse import ArgumentParser
from pathlib import Path
from statistics import fmean

import torch

import vsr
from benchmarks.clips import CLIPS, EXCERPTS, VID4, use_shared_data
from benchmarks.temporal_peers import ENDS
from vsr.image import dense_motion

POLICIES = {
    "bicubic": {"policy": "bicubic"},
    "smi": {"policy": "smi", "train": "auto"},
    "prior": {"policy": "shot", "train": "never"},
    "shot": {"policy": "shot", "train": "auto"},
}
COLUMNS = ("PSNR-Y, 8 px off", "PSNR-Y, 0 px off", "LPIPS", "tOF px")


def main() -> None:
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=["bicubic", "prior"])
    parser.add_argument("--clips", nargs="+", choices=VID4, default=list(VID4))
    parser.add_argument("--motion", choices=["opencv", "torch"], default="opencv")
    options = parser.parse_args()
    if options.motion == "torch":
        options.folder = options.folder / "torch"
        # Whatever asks for the device is told that it is not the CPU.
        dense_motion._on_cpu = lambda _: False
    use_shared_data()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[list[float]]] = {policy: [] for policy in options.policies}
    for clip in options.clips:
        for policy in options.policies:
            figures = measure(clip, policy, options.folder)
            rows[policy].append(figures)
            print(f"{clip}, {policy}: {figures}", flush=True)
    print(f"\n| policy | {' | '.join(COLUMNS)} |\n|---|{'--:|' * len(COLUMNS)}")
    for policy, figures in rows.items():
        means = map(fmean, zip(*figures, strict=True))
        shown = " | ".join(f"{mean:.{2 if n < 2 else 3}f}" for n, mean in enumerate(means))
        print(f"| {policy} | {shown} |")


def measure(clip: str, policy: str, folder: Path) -> list[float]:
    """Upscale and score one clip, or find what was found before; the figures of `COLUMNS`."""
    record, result = folder / f"{clip}-{policy}.json", folder / f"{clip}-{policy}.mkv"
    if record.exists():
        return json.loads(record.read_text())
    low, truth = CLIPS / str(EXCERPTS[clip].low), EXCERPTS[clip].path
    if not result.exists():
        form = {"codec": "ffv1", "pix_fmt": "bgr0", "metrics": ()}
        chosen = POLICIES[policy]
        if chosen.get("train") == "auto":
            form["models"] = folder / f"bank-{clip}"
        vsr.run(low, result, scale=4, threads=1, **chosen, **form)
    inner = vsr.score(result, truth, metrics=("psnr_y", "lpips", "tof"), border=8).results[0]
    whole = vsr.score(result, truth, metrics=("psnr_y",)).results[0]
    flows = inner.metrics["tof"].per_frame or ()
    tof = fmean(value for value in flows[ENDS + 1 : -ENDS] if value is not None)
    lpips = inner.metrics["lpips"].mean
    figures = [inner.metrics["psnr_y"].mean, whole.metrics["psnr_y"].mean, lpips, tof]
    record.write_text(json.dumps(figures))
    return figures


if __name__ == "__main__":
    main()
