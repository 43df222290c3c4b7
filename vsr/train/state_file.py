"""States of unfinished trainings on disk: beside the output, hidden, whole at any moment. Loading
never runs code."""

import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from vsr.errors import ModelError, OutputError, UsageError
from vsr.files import hidden_sibling, write_atomically

FORMAT = 3
"""Version of the state's content; others are refused."""
# A damaged file raises different errors, depending on where the damage is.
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    pickle.UnpicklingError,
)


class Resumable:
    """An object whose state can be saved and restored: what the attributes named in `kept` hold."""

    kept: ClassVar[tuple[str, ...]] = ()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values, which share nothing with the object that changes later."""
        return {name: _state_of(getattr(self, name)) for name in self.kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of an object that was built alike."""
        for name in self.kept:
            value, saved = getattr(self, name), state[name]
            if isinstance(value, torch.Generator):
                value.set_state(saved)
            elif isinstance(value, torch.Tensor):
                # In place: weights of a network may be views of it.
                value.copy_(saved)
            elif hasattr(value, "load_state_dict"):
                value.load_state_dict(saved)
            else:
                setattr(self, name, saved)


def _state_of(value: Any) -> Any:
    if isinstance(value, torch.Generator):
        return value.get_state()
    if hasattr(value, "state_dict"):
        return value.state_dict()
    return value.copy() if isinstance(value, list | dict) else value


def state_path(output: Path) -> Path:
    """Where the state of a training lies until `output` is finished."""
    return hidden_sibling(output, ".training")


class StateFile:
    """Keeps the state of the training that makes `output`, with the plan that it follows."""

    def __init__(
        self,
        output: Path,
        plan: Mapping[str, Any],
        notify: Callable[[str], None],
        *,
        begins_anew: bool,
    ) -> None:
        """`plan` has all that decides what comes out, as plain values.

        With `begins_anew` a state that cannot be used is discarded with a note; otherwise it is an
        error.
        """
        self.path = state_path(output)
        self.output, self.notify, self._plan = output, notify, plan
        self._begins_anew = begins_anew

    def save(self, training: Resumable) -> None:
        """Save the state in place of the previous one. Raises `OutputError`."""
        content = io.BytesIO()
        state = {"format": FORMAT, "plan": dict(self._plan), "training": training.state_dict()}
        torch.save(state, content)
        try:
            write_atomically(self.path, content.getvalue())
        except OSError as error:
            raise OutputError(
                f"the training's state cannot be written beside {self.output}: {error.strerror}."
            ) from None

    def load(self, training: Resumable) -> bool:
        """Restore the training from the saved state; returns whether there was a usable one.

        Raises `UsageError` for the state of another plan and `ModelError` for a broken one, unless
        trainings of this kind start over instead.
        """
        if not self.path.exists():
            return False
        try:
            state = self._read()
        except (UsageError, ModelError) as error:
            if not self._begins_anew:
                raise
            self.notify(f"{error} The training starts over.")
            return False
        try:
            training.load_state_dict(state)
        except _UNREADABLE as error:
            raise ModelError(
                f"the state of a stopped training, {self.path}, does not fit its plan "
                f"({str(error)[:120]}). Delete it to start over."
            ) from None
        return True

    def remove(self) -> None:
        """Delete the state, when the output is complete or no longer wanted. Raises OSError."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> Mapping[str, Any]:
        try:
            # On the CPU: the device may be another one than that which wrote it.
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if state.get("format") != FORMAT:
                raise ValueError("another version of vsr wrote it")
            theirs, training = dict(state["plan"]), dict(state["training"])
        except _UNREADABLE as error:
            remedy = "." if self._begins_anew else "; start over with --restart."
            raise ModelError(
                f"the state of a stopped training, {self.path}, cannot be used "
                f"({str(error)[:120]}){remedy}"
            ) from None
        if changed := _first_difference(theirs, self._plan):
            raise UsageError(
                f"a stopped training of {self.output} differs in its {changed}"
                + (
                    "."
                    if self._begins_anew
                    else ": give the same command to resume it, or --restart."
                )
            )
        return training


def _first_difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """The entry of two plans that is not the same, in words; empty where there is none."""
    for name in {**theirs, **ours}:
        before, now = theirs.get(name), ours.get(name)
        if isinstance(before, dict) and isinstance(now, dict) and before != now:
            key = next(key for key in {**before, **now} if before.get(key) != now.get(key))
            return f"{name}, there {key} from {before.get(key)} to {now.get(key)}"
        if before != now:
            return name
    return ""
