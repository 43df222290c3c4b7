"""Resume of an interrupted run: what must be equal in both runs."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from vsr.engine.machine import versions
from vsr.engine.precision import dtype_name
from vsr.engine.tiling import set_num_threads
from vsr.models.bank import bank_files
from vsr.models.shot_model import shot_model_files
from vsr.pipeline.options import Recipe
from vsr.records import to_table
from vsr.upscale import Policy
from vsr.video.frames import ClipInfo
from vsr.video.step import Json
from vsr.video.write.segment_store import REQUESTED, RESOLVED, SegmentStore


def resume_plan(
    info: ClipInfo,
    recipe: Recipe,
    device: torch.device,
    models: Iterable[Path],
    others: Mapping[str, str | Path | None],
    container: str,
) -> Json | None:
    """Return the options and inputs that a later run must share to resume this one; None where
    resume is impossible, as from a pipe.

    `others` are the clips that are read beside the input, by their role.
    """
    if not info.identity:
        return None
    # Hashing hours of film would take minutes: size and time of a file tell that it was changed.
    clips = {
        name: _file_fingerprint(Path(path)) for name, path in others.items() if path is not None
    }
    requested = {
        "input": _file_fingerprint(info.path) | {"content": info.identity},
        **clips,
        "models": {path.name: _content_hash(path) for path in models},
        # Threads change the speed alone, and a check of the result nothing.
        "options": to_table(
            replace(recipe, threads=None, encode=replace(recipe.encode, verify=False))
        ),
        "device": str(device),
        "container": container,
        "versions": versions(),
    }
    # Not asked for but found out: a later run takes these over.
    resolved = {"threads": torch.get_num_threads(), "dtype": dtype_name(recipe.dtype, device)}
    return {REQUESTED: requested, RESOLVED: resolved}


def with_earlier_choices(recipe: Recipe, work: SegmentStore | None) -> Recipe:
    """Take over the precision that an earlier run found best, and as many threads as that had
    unless told otherwise."""
    if work is None or work.plan is None or not work.is_begun:
        return recipe
    resolved = work.plan[RESOLVED]
    if recipe.threads is None and resolved["threads"] != torch.get_num_threads():
        set_num_threads(resolved["threads"])
    return replace(recipe, dtype=resolved["dtype"])


def model_files(policy: Policy, recipe: Recipe, models: str | Path | None) -> list[Path]:
    """List the files that a policy's models come from."""
    own = list(policy.files)
    if policy.needs == "file":
        return [*own, Path(recipe.upscaler)] if recipe.upscaler else own
    if policy.needs == "nothing" or models is None:
        return own
    files = (shot_model_files if policy.needs == "shot models" else bank_files)(Path(models))
    return own + files


def _file_fingerprint(path: Path) -> dict[str, object]:
    """Size and time of a file; of a folder of pictures only its place, since what is in it is part
    of its content's hash."""
    if not path.is_file():
        return {"path": str(path)}
    status = path.stat()
    return {"bytes": status.st_size, "changed_at_ns": status.st_mtime_ns}


def _content_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        # Loading it raises the error.
        return f"cannot be read: {error.strerror}"
