"""Pairs of container and codec at which libavformat's muxer ends the process instead of failing.

Those that were tried are shipped; for any other pair a child process tries it once, and its answer
is kept in the user's cache.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import av
from platformdirs import user_cache_path

from vsr.files import write_atomically
from vsr.video.write import mux_child

CHILD_SECONDS = 30

_SHIPPED = Path(__file__).with_name("muxer_safety.json")
_CACHE_NAME = "muxer-safety.json"


def survives(container_format: str, codec: str, source: Path, number: int) -> bool:
    """Tell whether muxing a stream into a container leaves the process alive."""
    pair = f"{container_format}:{codec}"
    shipped = _shipped()
    if pair in shipped:
        return shipped[pair]
    known = _read(_cache_path())
    # Another build of libavformat may have been mended, or broken.
    key = f"{pair}:{'.'.join(map(str, av.library_versions['libavformat']))}"
    if key not in known:
        known[key] = _try_in_child(container_format, source, number)
        _keep(known)
    return known[key]


@cache
def _shipped() -> dict[str, bool]:
    return _read(_SHIPPED)


def _read(path: Path) -> dict[str, bool]:
    """Read answers; none where there are none, or where the file is broken."""
    try:
        answers = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(key): bool(value) for key, value in answers.items()}


def _try_in_child(container_format: str, source: Path, number: int) -> bool:
    command = [sys.executable, "-I", mux_child.__file__, container_format, str(source), str(number)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=CHILD_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    # A signal is a negative code; exceptions of Python end with 1, and prove that it lived.
    return done.returncode in (0, 1)


def _keep(answers: dict[str, bool]) -> None:
    """Write the answers for later runs; one that cannot be written costs a child each time."""
    path = _cache_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(answers, indent=1, sort_keys=True).encode())
    except OSError:
        return


def _cache_path() -> Path:
    folder = os.environ.get("VSR_CACHE")
    return (Path(folder) if folder else user_cache_path("vsr")) / _CACHE_NAME
