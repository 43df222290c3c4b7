"""Going on with a run that was ended: what has to be the same, and what the earlier run knew."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from vsr.engine.options import dtype_name
from vsr.engine.strips import set_num_threads
from vsr.models.bank import SYSTEMS, bank_files
from vsr.models.shot_model import shot_model_files
from vsr.pipeline.manifest import versions
from vsr.pipeline.options import Recipe
from vsr.records import to_table
from vsr.temporal.deflicker import ShotFlickerState
from vsr.temporal.statistics import FrameStatistics
from vsr.upscale import MODEL_FREE, Decision
from vsr.upscale.network_policy import UPSCALER
from vsr.upscale.policy import MiddleOfShot
from vsr.upscale.shot import MODEL_CHOICE_FRAMES
from vsr.video.frames import ClipInfo
from vsr.video.write.segment_store import REQUESTED, RESOLVED, Json, SegmentStore

GIVEN = "given"
"""What a manifest calls the policy of a video that was upscaled elsewhere."""
FRAME_BY_FRAME = MODEL_FREE | {"smi", "ami", "avgi", "student", *SYSTEMS, UPSCALER, GIVEN}
"""Policies that make each frame from itself, once the first frame of its shot has decided how."""
FRAME_BY_FRAME_UNLESS_SWITCHING = frozenset({"dsrfi", "selfrec"})


@dataclass(frozen=True)
class Resumed:
    """What an earlier run left; without one there is nothing done."""

    frames_done: int = 0
    last_picture: torch.Tensor | None = None
    """The last enlarged frame that is done, as it was before it was encoded: (3, H, W)."""
    shot_starts: frozenset[int] = frozenset()
    """First frames of the shots that were known of."""
    decisions: tuple[Decision, ...] = ()
    progress: Mapping[int, ShotFlickerState] = field(default_factory=dict)
    """What flicker control knew, by the first frame of the shot."""
    measured: tuple[Json, ...] = ()
    middle: MiddleOfShot | None = None
    """Of the shot that the last frame lies in, for a policy that looks back."""

    @property
    def shot_start(self) -> int:
        """First frame of the shot that the last frame that is done lies in."""
        return max(start for start in self.shot_starts if start < self.frames_done)

    def is_shot_done(self, first_frame: int) -> bool:
        """Whether all frames of the shot that begins here are known to be done.

        Of the shot that the last of them lies in, that is not always known.
        """
        following = [start for start in self.shot_starts if start > first_frame]
        return bool(following) and min(following) <= self.frames_done


@dataclass(frozen=True)
class Rerun:
    """Which frames of a shot that is done in part must be made again for the others to become the
    same."""

    first: int
    """So many at its start, by which it is decided how the shot is made."""
    lead: int
    """So many before the last that is done."""


def rerun_of(recipe: Recipe, resumed: Resumed) -> Rerun | None:
    """What a policy wants of a shot that is done in part; None: all of it."""
    is_switching = recipe.policy in FRAME_BY_FRAME_UNLESS_SWITCHING and recipe.policies.per_frame
    if recipe.policy in FRAME_BY_FRAME | FRAME_BY_FRAME_UNLESS_SWITCHING and not is_switching:
        return Rerun(1, 0)
    middle = resumed.middle
    if middle is None or middle.last - middle.lead < resumed.shot_start + MODEL_CHOICE_FRAMES:
        return None
    return Rerun(MODEL_CHOICE_FRAMES, middle.lead)


def resume_plan(
    info: ClipInfo,
    recipe: Recipe,
    device: torch.device,
    models: Iterable[Path],
    others: Mapping[str, str | Path | None],
    container: str,
) -> Json | None:
    """What a later run must be asked for as well to go on with this one; None where it could not,
    as of a pipe.

    `others` are the clips that are read beside the input, by what they are for.
    """
    if not info.identity:
        return None
    clips = {
        name: _file_fingerprint(Path(path)) for name, path in others.items() if path is not None
    }
    asked = {
        "input": _file_fingerprint(info.path) | {"content": info.identity},
        **clips,
        "models": {path.name: _content_hash(path) for path in models},
        "options": to_table(replace(recipe, threads=None)),
        "device": str(device),
        "container": container,
        "versions": versions(),
    }
    decided = {"threads": torch.get_num_threads(), "dtype": dtype_name(recipe.dtype, device)}
    return {REQUESTED: asked, RESOLVED: decided}


def with_earlier_choices(recipe: Recipe, work: SegmentStore | None) -> Recipe:
    """The recipe with what an earlier run found best for it, and as many threads as that had unless
    told otherwise."""
    if work is None or work.plan is None or not work.num_segments:
        return recipe
    decided = work.plan[RESOLVED]
    if recipe.threads is None and decided["threads"] != torch.get_num_threads():
        set_num_threads(decided["threads"])
    return replace(recipe, dtype=decided["dtype"])


def model_files(recipe: Recipe, models: str | Path | None) -> list[Path]:
    """The files that a policy's models come from."""
    if recipe.upscaler:
        return [Path(recipe.upscaler)]
    if recipe.policy in MODEL_FREE or models is None:
        return []
    return (shot_model_files if recipe.policy == "shot" else bank_files)(Path(models))


def memory_of(
    frame: int,
    starts: Iterable[int],
    decisions: Iterable[Decision],
    progress: Iterable[ShotFlickerState],
    measured: Json,
    lead: int | None,
) -> Json:
    """What to keep beside a segment whose last frame is `frame`; the lists may be of a part of the
    clip.

    `lead` is that of the policy's `MiddleOfShot`, whose pictures are kept apart.
    """
    return {
        "starts": list(starts),
        "decisions": [asdict(decision) for decision in decisions],
        "progress": [asdict(each.up_to(frame)) for each in progress],
        "measured": measured,
        "lead": lead,
    }


def resumed_from(work: SegmentStore | None) -> Resumed:
    """What stands beside the closed segments of a work folder."""
    if work is None or work.num_segments == 0:
        return Resumed()
    memories = [segment.memory for segment in work.segments()]
    shots = [_shot_state_from_json(each) for memory in memories for each in memory["progress"]]
    last_picture, *pictures = work.last_frames()
    lead = memories[-1]["lead"]
    return Resumed(
        frames_done=work.frames_done,
        last_picture=last_picture,
        shot_starts=frozenset(start for memory in memories for start in memory["starts"]),
        decisions=tuple(
            _decision_from_json(each) for memory in memories for each in memory["decisions"]
        ),
        progress={progress.first_frame: progress for progress in shots},
        measured=tuple(memory["measured"] for memory in memories),
        middle=None if lead is None else MiddleOfShot(work.frames_done - 1, lead, tuple(pictures)),
    )


def _shot_state_from_json(values: dict[str, Any]) -> ShotFlickerState:
    frame_statistics = [
        FrameStatistics(
            each["frame"], tuple(each["gradients"]), each["changes"] and tuple(each["changes"])
        )
        for each in values["frame_statistics"]
    ]
    return ShotFlickerState(**{**values, "frame_statistics": frame_statistics})


def _decision_from_json(values: dict[str, Any]) -> Decision:
    ranking = tuple((name, score) for name, score in values["ranking"])
    return Decision(**{**values, "models": tuple(values["models"]), "ranking": ranking})


def _file_fingerprint(path: Path) -> dict[str, object]:
    """Of a folder of pictures only its place: what is in it is part of its content's hash."""
    if not path.is_file():
        return {"path": str(path)}
    status = path.stat()
    return {"bytes": status.st_size, "changed_at_ns": status.st_mtime_ns}


def _content_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        # Loading it will tell.
        return f"cannot be read: {error.strerror}"
