"""A look at a clip, in a process of its own: its shots and the keyframe of each.

    python -m vsr.cli.local_page.look CLIP FOLDER

Writes `shots.json` and a small picture of each keyframe, or `shots.json` with an `error`.
"""

import json
import sys
from pathlib import Path

from vsr.errors import VsrError
from vsr.evaluate.images import encode_small
from vsr.files import write_atomically
from vsr.text import printable
from vsr.video.reader import ReadOptions, open_clip
from vsr.video.shots import find_shots

THUMBNAIL_WIDTH_PX = 240
MAX_SHOTS = 200
"""Shots of which a picture is made; of a long film the first."""


def look(clip: str, folder: Path) -> None:
    """Find the shots of a clip and write what the page shows of them."""
    read = ReadOptions()
    with open_clip(clip, read) as reader:
        info = reader.info
        shots = find_shots(reader.frames())
    if not shots:
        raise VsrError(f"{clip} has no frame that can be decoded.")
    keyframes = {shot.keyframe: shot.index for shot in shots[:MAX_SHOTS]}
    with open_clip(clip, read) as reader:
        for frame in reader.frames():
            if frame.index in keyframes:
                picture = encode_small(frame.pixels, THUMBNAIL_WIDTH_PX)
                write_atomically(folder / f"{keyframes.pop(frame.index)}.webp", picture)
            if not keyframes:
                break
    described = {
        "width": info.width,
        "height": info.height,
        "frames": shots[-1].last_frame + 1,
        "seconds": round(shots[-1].end_seconds - shots[0].start_seconds, 2),
        "shots": [
            {
                "first": shot.first_frame,
                "last": shot.last_frame,
                "keyframe": shot.keyframe,
                "start": round(shot.start_seconds, 2),
            }
            for shot in shots[:MAX_SHOTS]
        ],
        "more": max(0, len(shots) - MAX_SHOTS),
    }
    write_atomically(folder / "shots.json", json.dumps(described).encode())


def main() -> None:
    """Look at the clip that the command line names."""
    clip, folder = sys.argv[1], Path(sys.argv[2])
    try:
        look(clip, folder)
    except VsrError as error:
        text = json.dumps({"error": printable(str(error))})
        write_atomically(folder / "shots.json", text.encode())


if __name__ == "__main__":
    main()
