"""Prints the figures in `test_metrics_no_reference.py` that other programs made; no test and no
part of the product.

It runs in an environment of its own, for pyiqa pulls some thirty packages and needs an older
OpenCV:

    uv venv oracles && uv pip install --python oracles pyiqa==0.1.16 "opencv-contrib-python==4.14.*"
    oracles/bin/python tests/make_oracle_figures.py
"""

import os
from pathlib import Path

import cv2
import numpy as np
import torch
from pyiqa.archs.niqe_arch import calculate_niqe

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PARAMETERS = DATA / "metric-params"
NAMES = ("baboon", "barbara", "bridge", "coastguard", "comic", "monarch", "zebra")


def main():
    pristine = np.load(PARAMETERS / "niqe_pris_params.npz")
    mean, covariance = (
        torch.from_numpy(pristine[name]) for name in ("mu_pris_param", "cov_pris_param")
    )
    files = [os.fspath(PARAMETERS / f"brisque_{part}_live.yml") for part in ("model", "range")]
    for name in NAMES:
        picture = cv2.imread(os.fspath(DATA / "stills" / "set14" / "HR" / f"{name}.png"))
        pixels = torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1).float() / 255
        niqe = calculate_niqe(
            pixels[None], color_space="ycbcr", mu_pris_param=mean, cov_pris_param=covariance
        )
        brisque = cv2.quality.QualityBRISQUE_compute(picture, *files)[0]
        print(f'    "{name}": ({float(niqe):.4f}, {brisque:.4f}),')


if __name__ == "__main__":
    main()
