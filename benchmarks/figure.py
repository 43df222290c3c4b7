"""Draws `docs/figures/shot.png` and `docs/figures/crops.png` from the repository's own sample.

Each shows crops, and one row of pixels over time. The shot model is trained anew, in some seconds.

python -m benchmarks.figure
"""

import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

import vsr
from vsr.video.reader import open_clip

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "samples"
FIGURES = ROOT / "docs" / "figures"
SHEETS = {
    "shot.png": {"bicubic": "bicubic", "one model": "smi", "shot model": "shot"},
    "crops.png": {"bicubic": "bicubic", "SMI": "smi", "AVGI, 15 models": "avgi"},
}
"""The policies of each picture, by their labels; the truth comes last."""
CROPS = ((8, 131, 156), (39, 206, 18))
"""Frame, left and top corner in pixels of the truth; neither frame is the keyframe."""
CROP_HEIGHT, CROP_WIDTH = 80, 128
ROW, ROW_LEFT = 92, 150
"""The row of pixels that the strip follows through the clip."""
ENLARGEMENT = 3
STRIP_ENLARGEMENT = 4
GAP_PX, LABEL_PX = 6, 34


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        vsr.train_shot(SAMPLES / "clip.mp4", folder)
        clips = {
            policy: enlarged(policy, Path(folder))
            for sheet in SHEETS.values()
            for policy in sheet.values()
        }
    truth = frames_of(SAMPLES / "clip_truth.mkv")
    for name, sheet in SHEETS.items():
        draw(
            FIGURES / name,
            {label: clips[policy] for label, policy in sheet.items()} | {"truth": truth},
        )


def draw(target: Path, clips: dict[str, list[np.ndarray]]) -> None:
    rows = [
        [crop(frames[index], left, top) for frames in clips.values()] for index, left, top in CROPS
    ]
    rows.append([strip(frames) for frames in clips.values()])
    sheet = np.concatenate([labels(list(clips)), *(beside(row) for row in rows)])
    target.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(target), sheet[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(f"{target}: {target.stat().st_size / 1024:.0f} KiB")


def enlarged(policy: str, folder: Path) -> list[np.ndarray]:
    """Upscale the sample losslessly, without flicker control, into `folder` with its shot model."""
    target = folder / f"{policy}.mkv"
    models = folder if policy == "shot" else SAMPLES / "ckpts"
    vsr.run(
        SAMPLES / "clip.mp4",
        target,
        policy=policy,
        models=models,
        steady=0.0,
        metrics=(),
        codec="ffv1",
        pix_fmt="bgr0",
        overwrite=True,
    )
    return frames_of(target)


def frames_of(clip: Path) -> list[np.ndarray]:
    with open_clip(clip) as reader:
        return [picture(frame.pixels) for frame in reader.frames()]


def picture(pixels: torch.Tensor) -> np.ndarray:
    """uint8 RGB, (H, W, 3)."""
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def crop(frame: np.ndarray, left: int, top: int) -> np.ndarray:
    return enlarge(
        frame[top : top + CROP_HEIGHT, left : left + CROP_WIDTH], ENLARGEMENT, ENLARGEMENT
    )


def strip(frames: list[np.ndarray]) -> np.ndarray:
    """Time downwards: what moves steadily draws straight edges, what flickers frays them."""
    rows = np.stack([frame[ROW, ROW_LEFT : ROW_LEFT + CROP_WIDTH] for frame in frames])
    return enlarge(rows, ENLARGEMENT, STRIP_ENLARGEMENT)


def enlarge(pixels: np.ndarray, across: int, down: int) -> np.ndarray:
    """Every pixel as a block, so that nothing is smoothed over."""
    return pixels.repeat(down, axis=0).repeat(across, axis=1)


def beside(panels: list[np.ndarray]) -> np.ndarray:
    """Panels in a row, with a white gap around each."""
    framed = [
        np.pad(panel, ((0, GAP_PX), (0, GAP_PX), (0, 0)), constant_values=255) for panel in panels
    ]
    return np.concatenate(framed, axis=1)


def labels(texts: list[str]) -> np.ndarray:
    """A text above each panel."""
    panels = []
    for text in texts:
        panel = np.full((LABEL_PX - GAP_PX, ENLARGEMENT * CROP_WIDTH, 3), 255, np.uint8)
        panels.append(
            cv2.putText(
                panel, text, (4, LABEL_PX - GAP_PX - 8), (20, 20, 20), cv2.FontFace("sans"), 22
            )[1]
        )
    return beside(panels)


if __name__ == "__main__":
    main()
