"""Unfinished trainings on disk: beside the output, hidden, whole at any moment. Loading never runs
code."""

import io
import pickle
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, fields
from pathlib import Path

import torch

from vsr.errors import ModelError, OutputError, UsageError
from vsr.files import FolderLock, hidden_sibling, write_atomically
from vsr.train.dataset.plan import Plan
from vsr.train.dataset.trainer import Trainer
from vsr.train.dataset.validation import ValidationResult


def state_path(output: Path) -> Path:
    """Where the state of a training lies until `output` is finished."""
    return hidden_sibling(output, ".training")


def output_lock(output: Path) -> AbstractContextManager[object]:
    """Holds `output` and its state for this process; raises `OutputError` on entry where another
    one trains it."""
    return FolderLock(
        output.absolute().parent,
        f"{output.name} is being trained",
        hidden_sibling(output, ".lock").name,
    )


def save_state(
    trainer: Trainer, validations: Sequence[ValidationResult], plan: Plan, output: Path
) -> None:
    """Raises `OutputError`."""
    content = io.BytesIO()
    state = {
        "plan": asdict(plan),
        "looks": [asdict(validation) for validation in validations],
        "course": trainer.state(),
    }
    torch.save(state, content)
    try:
        write_atomically(state_path(output), content.getvalue())
    except OSError as error:
        raise OutputError(
            f"the training's state cannot be written beside {output}: {error.strerror}."
        ) from None


def load_state(
    trainer: Trainer, plan: Plan, output: Path, restart: bool, notify: Callable[[str], None]
) -> list[ValidationResult]:
    """Bring `trainer` to where a stopped training of the same plan was, and return its looks at the
    validation.

    Raises `UsageError` where another plan's state is there, and `ModelError` for a broken one; both
    unless `restart`.
    """
    path = state_path(output)
    if restart or not path.exists():
        return []
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        theirs = Plan(**state["plan"])
        _check_same_plan(theirs, plan, output)
        trainer.load_state(state["course"])
        validations = [ValidationResult(**validation) for validation in state["looks"]]
    # What a damaged file leads to depends on where its bytes go wrong.
    except (
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        pickle.UnpicklingError,
    ) as error:
        raise ModelError(
            f"the state of a stopped training, {path}, cannot be used ({str(error)[:120]}); "
            "--restart begins anew."
        ) from None
    notify(f"going on from step {trainer.step}, where this training was stopped")
    return validations


def _check_same_plan(theirs: Plan, plan: Plan, output: Path) -> None:
    for field in fields(Plan):
        before, now = getattr(theirs, field.name), getattr(plan, field.name)
        if before == now:
            continue
        changed = field.name
        if isinstance(before, dict) and isinstance(now, dict):
            key = next(key for key in {**before, **now} if before.get(key) != now.get(key))
            changed = f"{field.name}, there {key} from {before.get(key)} to {now.get(key)}"
        raise UsageError(
            f"a stopped training of {output} differs in its {changed}: give the same command to go "
            "on, or --restart."
        )
