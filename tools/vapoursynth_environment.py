"""Build an environment with VapourSynth, which needs a newer Python than vsr does, and test there.

    python -m tools.vapoursynth_environment FOLDER [--test] [--slow] [--with PACKAGE ...]

Takes the first Python of 3.12 or newer that it finds: the one that runs this, those on the path,
those of pyenv. Installs vsr from this checkout with its extra `vapoursynth`, the source filter
BestSource, pytest, and what `--with` names. An environment that is there already is used again.
`--test` runs `tests/test_vapoursynth.py` in it, `--slow` its checks on real clips. Exit code 0 also
where no such Python is found: the reason is printed, and nothing is built.
"""

import os
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from shutil import which

OLDEST = (3, 12)
NEWEST_MINOR = 15
REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("vapoursynth-bestsource", "pytest>=9,<10")
MARK = "packages.txt"
"""File in the environment that tells what it was made with, written last."""


def find_python() -> Path | None:
    """Find a Python of at least `OLDEST` that runs and has the module venv."""
    return next((path for path in _candidates() if _serves(path)), None)


def build(folder: Path, packages: tuple[str, ...] = ()) -> bool:
    """Build the environment in a folder, unless it is there; False without a Python for it.

    Raises `CalledProcessError` where an installation fails.
    """
    wanted = "\n".join([*PACKAGES, *packages])
    if (folder / MARK).is_file() and (folder / MARK).read_text() == wanted:
        return True
    python = find_python()
    if python is None:
        return False
    subprocess.run([python, "-m", "venv", folder], check=True)
    # uv installs in a fraction of pip's time.
    _run(folder, "python", "-m", "pip", "install", "--quiet", "uv")
    _run(
        folder,
        *("uv", "pip", "install", "--quiet", "--python", folder / "bin" / "python"),
        *("--editable", f"{REPOSITORY}[vapoursynth]", *PACKAGES, *packages),
    )
    # vspipe learns here which Python it belongs to.
    _run(folder, "vapoursynth", "config")
    (folder / MARK).write_text(wanted)
    return True


def environment(folder: Path) -> dict[str, str]:
    """Variables for commands of the environment: its own commands first, its own settings of
    VapourSynth."""
    path = os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", "")])
    return os.environ | {"PATH": path, "XDG_CONFIG_HOME": str(folder / "config")}


def _run(folder: Path, command: str, *arguments: str | Path) -> None:
    subprocess.run(
        [folder / "bin" / command, *arguments], check=True, env=environment(folder), cwd=REPOSITORY
    )


def _candidates() -> Iterator[Path]:
    yield Path(sys.executable)
    names = [f"python3.{minor}" for minor in range(OLDEST[1], NEWEST_MINOR + 1)]
    yield from (Path(found) for name in names if (found := which(name)))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob("versions/3.*/bin/python"))


def _serves(python: Path) -> bool:
    # A shim of pyenv is there and fails where its version is not chosen.
    check = f"import sys, venv, ensurepip; sys.exit(sys.version_info < {OLDEST})"
    done = subprocess.run([python, "-c", check], capture_output=True, check=False)
    return done.returncode == 0


def main() -> int:
    """Build, and test where that is asked for."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--with", nargs="*", default=(), dest="packages", metavar="PACKAGE")
    asked = parser.parse_args()
    folder = asked.folder.absolute()
    if not build(folder, tuple(asked.packages)):
        print("skipped: VapourSynth needs Python 3.12 or newer, and none was found", flush=True)
        return 0
    print(f"{folder}: ready", flush=True)
    if not (asked.test or asked.slow):
        return 0
    chosen = "slow" if asked.slow else "not slow"
    command = [folder / "bin" / "python", "-m", "pytest", "-q", "-o", "addopts=", "-m", chosen]
    done = subprocess.run(
        [*command, "tests/test_vapoursynth.py"],
        check=False,
        env=environment(folder),
        cwd=REPOSITORY,
    )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
