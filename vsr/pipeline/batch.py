"""Many clips: those of folders and patterns, and those that appear in a folder that is watched;
each is upscaled by itself, one after another."""

import re
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from glob import glob
from pathlib import Path
from time import monotonic

from vsr.errors import InputError, InterruptedRunError, UsageError, VsrError
from vsr.files import strict_json
from vsr.pipeline.manifest import Manifest
from vsr.pipeline.options import RunFiles
from vsr.video.read.image_sequence import IMAGE_SUFFIXES

FILM_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".wmv", ".asf", ".flv", ".mpg", ".mpeg"),
    *(".vob", ".ts", ".m2ts", ".mts", ".mxf", ".3gp", ".3g2", ".ogv", ".ogm", ".y4m", ".nut"),
    *(".dv", ".rm", ".rmvb", ".gif"),
)
"""Endings by which films are known in a folder; a file that is named may have any."""
WORST_FIRST = (1, 5, 4, 3, 2, 6, 0)
"""Exit codes, the worst first."""
DAMAGED = 6
SETTLE_SECONDS = 2.0
"""Time without a change after which a file that appeared is whole."""
LOOK_SECONDS = 1.0
"""Time between two looks at a folder in which nothing happens."""
_RESULT = re.compile(r"(.+)_x\d+(\.\d+)?")
"""Stem of a result: that of its clip, and the scale."""


@dataclass(frozen=True)
class FoundClip:
    """One of many clips."""

    path: str
    subfolder: Path = Path()
    """Place below the folder that was given, which the result keeps under `--out-dir`."""


@dataclass(frozen=True)
class Outcome:
    """The end of one of many runs."""

    clip: str
    exit_code: int
    manifest: Manifest | None
    error: str = ""
    seconds: float = 0.0


def is_many(names: Sequence[str], recursive: bool) -> bool:
    """Tell whether names stand for more than one clip that is given as itself."""
    if len(names) != 1 or recursive:
        return True
    (path,) = map(Path, names)
    return _is_glob(path) or (path.is_dir() and bool(_files_of(path, FILM_SUFFIXES)))


def find_clips(
    names: Sequence[str], recursive: bool = False, notify: Callable[[str], None] = lambda _: None
) -> list[FoundClip]:
    """List the clips that names stand for, in their order, each once: files, folders of pictures,
    numbered patterns, folders of films, and patterns such as `*.mp4`.

    Results of earlier runs that lie beside their clips are passed over, which `notify` is told.
    Raises `UsageError` for a folder that mixes films and pictures, and for a pipe; `InputError`
    where there is nothing.
    """
    found: dict[str, FoundClip] = {}
    for name in names:
        if name == "-":
            raise UsageError("a pipe is one clip: give standard input alone.")
        path = Path(name)
        if _is_glob(path):
            matches = sorted(glob(name, recursive=True))
            if not matches:
                raise InputError(f"nothing matches {name}; expected clips.")
            clips = [one for match in matches for one in _clips_at(Path(match), recursive, notify)]
        else:
            clips = _clips_at(path, recursive, notify)
        found |= {str(Path(clip.path).absolute()): clip for clip in clips}
    return list(found.values())


def run_clips(
    clips: Iterable[FoundClip],
    files: RunFiles,
    upscale: Callable[[str, RunFiles], Manifest],
    notify: Callable[[str], None] = lambda _: None,
) -> Iterator[Outcome]:
    """Upscale clips one after another, and yield the end of each; one that fails does not stop the
    others.

    Raises `InterruptedRunError` where the user asks for an end.
    """
    for clip in clips:
        start = monotonic()
        notify(f"clip {clip.path}")
        manifest, error, code = None, "", 0
        try:
            manifest = upscale(clip.path, files_of_clip(files, clip))
            code = DAMAGED if manifest.damage else 0
        except InterruptedRunError:
            raise
        except VsrError as failure:
            code, error = failure.exit_code, str(failure)
            notify(f"vsr: {error}")
        except Exception as failure:
            # A bug of ours with this clip: told in full, and the others have their turn.
            code, error = 1, f"{type(failure).__name__}: {failure}"
            notify(traceback.format_exc())
        yield Outcome(clip.path, code, manifest, error, monotonic() - start)


def files_of_clip(files: RunFiles, clip: FoundClip) -> RunFiles:
    """Give one of many clips its own place for the result and for the work."""
    if files.out_dir is not None:
        files = replace(files, out_dir=Path(files.out_dir) / clip.subfolder)
    if files.work.folder is not None:
        name = clip.subfolder / Path(clip.path).name
        files = replace(files, work=replace(files.work, folder=files.work.folder / name))
    return files


def check_many(clips: Sequence[FoundClip], files: RunFiles) -> None:
    """Refuse, before any work, what cannot be for many clips. Raises `UsageError`."""
    if files.output is not None:
        raise UsageError("-o names one file and there are several clips: give --out-dir DIR.")
    if files.reference is not None:
        raise UsageError("--reference is the truth of one clip; run the clips one by one.")
    if files.out_dir is None:
        return
    places: dict[Path, str] = {}
    for clip in clips:
        place = clip.subfolder / Path(clip.path).name
        if place in places:
            raise UsageError(
                f"{places[place]} and {clip.path} would have results of one name in "
                f"{files.out_dir}; run them apart."
            )
        places[place] = clip.path


def to_json(outcomes: Sequence[Outcome]) -> str:
    """Write a list with the manifest of each run, or the error that ended it, as strict JSON."""
    return strict_json(
        [
            {"clip": each.clip, "exit_code": each.exit_code, "error": each.error}
            if each.manifest is None
            else asdict(each.manifest)
            for each in outcomes
        ]
    )


def worst(codes: Iterable[int]) -> int:
    """Choose the worst of exit codes; 0 of none."""
    return min(codes, key=WORST_FIRST.index, default=0)


def has_result(clip: FoundClip, files: RunFiles) -> bool:
    """Tell whether a result of a clip lies where the run would put it."""
    path = Path(clip.path)
    folder = path.parent if files.out_dir is None else Path(files.out_dir) / clip.subfolder
    if not folder.is_dir():
        return False
    found = (_RESULT.fullmatch(other.stem) for other in folder.iterdir() if not _is_hidden(other))
    return any(each is not None and each[1] == path.stem for each in found)


def watch_films(
    folder: str | Path,
    recursive: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    notify: Callable[[str], None] = lambda _: None,
) -> Iterator[FoundClip]:
    """Yield the films of a folder, those there and those that appear, each as soon as it stopped
    growing, until `should_stop` says so; results of films that were there are passed over.

    Raises `InputError` where the folder is not there, or vanishes.
    """
    from watchfiles import watch

    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"{root} is not a folder that could be watched.")
    notify(f"watching {root} for films; Ctrl-C ends it")
    growing: dict[Path, tuple[tuple[int, int], float]] = {}
    """Size and time of change of files that may still grow, and since when they have those."""
    taken: set[Path] = set()
    events = watch(
        root,
        recursive=recursive,
        rust_timeout=round(1000 * LOOK_SECONDS),
        yield_on_timeout=True,
        raise_interrupt=False,
    )
    for _ in events:
        if not root.is_dir():
            raise InputError(f"the watched folder {root} has gone; what was done is kept.")
        for path in _films_below(root, recursive, taken):
            if should_stop():
                return
            state = _state_of(path)
            if state is None or state[0] == 0:
                continue
            if path not in growing or growing[path][0] != state:
                growing[path] = state, monotonic()
            elif monotonic() - growing[path][1] >= SETTLE_SECONDS:
                taken.add(path)
                yield FoundClip(str(path), path.parent.relative_to(root))
        if should_stop():
            return


def _clips_at(path: Path, recursive: bool, notify: Callable[[str], None]) -> list[FoundClip]:
    """List the clips of one file or folder."""
    if not path.is_dir():
        return [FoundClip(str(path))]
    found = _clips_of_folder(path, path, recursive, notify)
    if not found:
        raise InputError(
            f"{path}: no films and no pictures there"
            + ("." if recursive else "; --recursive looks into its folders as well.")
        )
    return found


def _clips_of_folder(
    folder: Path, root: Path, recursive: bool, notify: Callable[[str], None]
) -> list[FoundClip]:
    films, pictures = _files_of(folder, FILM_SUFFIXES), _files_of(folder, IMAGE_SUFFIXES)
    if films and pictures:
        raise UsageError(
            f"{folder} holds films ({films[0].name}) and pictures ({pictures[0].name}): pictures "
            "in a folder are one clip, films are many. Name the clips, or part the folder."
        )
    place = folder.relative_to(root)
    if pictures:
        return [FoundClip(str(folder), place.parent)]
    clips = [FoundClip(str(film), place) for film in _without_results(films, notify)]
    if recursive:
        inside = [path for path in folder.iterdir() if path.is_dir() and not _is_hidden(path)]
        for path in _without_results(sorted(inside), notify):
            clips += _clips_of_folder(path, root, recursive, notify)
    return clips


def _films_below(root: Path, recursive: bool, taken: Collection[Path]) -> list[Path]:
    """List the films of a watched folder that were not taken yet, without results of those."""
    try:
        folders = [root]
        if recursive:
            inside = sorted(path for path in root.rglob("*") if path.is_dir())
            folders += [path for path in inside if not _is_hidden_below(path, root)]
        films = [film for folder in folders for film in _files_of(folder, FILM_SUFFIXES)]
    except (OSError, InputError):
        # A folder that vanished meanwhile is seen at the next look.
        return []
    # Of films that were moved away meanwhile as well.
    sources = {path.with_suffix("") for path in [*films, *taken]}
    return [
        film
        for film in films
        if film not in taken
        and not ((found := _RESULT.fullmatch(film.stem)) and film.with_name(found[1]) in sources)
    ]


def _without_results(paths: Sequence[Path], notify: Callable[[str], None]) -> list[Path]:
    """Leave out the results of others of these paths."""
    stems = {path.stem: path for path in paths}
    kept = []
    for path in paths:
        found = _RESULT.fullmatch(path.stem)
        if found and found[1] in stems:
            notify(f"{path} looks like a result of {stems[found[1]].name} and is passed over")
        else:
            kept.append(path)
    return kept


def _files_of(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """List the files of a folder that end so, by name. Raises `InputError`."""
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in suffixes and not _is_hidden(path) and path.is_file()
        )
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}.") from error


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _is_hidden_below(path: Path, root: Path) -> bool:
    """Tell whether a folder, or one between it and `root`, is hidden."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _is_glob(path: Path) -> bool:
    """Tell whether a name is a pattern that a shell left to us, not a file of that name."""
    return any(sign in str(path) for sign in "*?[") and not path.exists()


def _state_of(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
