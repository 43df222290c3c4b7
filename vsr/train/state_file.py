"""States of unfinished trainings on disk: beside the output, hidden, whole at any moment. Loading
never runs code."""

import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from vsr.errors import ModelError, OutputError, UsageError
from vsr.files import hidden_sibling, write_atomically
from vsr.train.fit import Training

FORMAT = 2
"""Of the state's content; another one is not taken up."""
# What a damaged file leads to depends on where its bytes go wrong.
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

        With `begins_anew` a state that cannot be taken up is told and discarded, else an error.
        """
        self.path = state_path(output)
        self._output, self._plan, self._notify = output, plan, notify
        self._begins_anew = begins_anew

    def save(self, training: Training) -> None:
        """Keep the state in place of the one before. Raises `OutputError`."""
        content = io.BytesIO()
        state = {"format": FORMAT, "plan": dict(self._plan), "training": training.state_dict()}
        torch.save(state, content)
        try:
            write_atomically(self.path, content.getvalue())
        except OSError as error:
            raise OutputError(
                f"the training's state cannot be written beside {self._output}: {error.strerror}."
            ) from None

    def load(self, training: Training) -> None:
        """Bring the training to where the kept state was, where there is one.

        Raises `UsageError` where it is another plan's, and `ModelError` for a broken one, unless a
        training of this kind begins anew then.
        """
        if not self.path.exists():
            return
        try:
            state = self._read()
        except (UsageError, ModelError) as error:
            if not self._begins_anew:
                raise
            self._notify(f"{error} It begins anew.")
            return
        try:
            training.load_state_dict(state)
        except _UNREADABLE as error:
            raise ModelError(
                f"the state of a stopped training, {self.path}, does not fit its plan "
                f"({str(error)[:120]}). Delete it to begin anew."
            ) from None
        self._notify(
            f"going on from iteration {training.iterations_done} of {training.iterations} of "
            f"{self._output.name}, where its training was stopped"
        )

    def remove(self) -> None:
        """Forget the state: the output is there, or is not wanted any more. Raises OSError."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> Mapping[str, Any]:
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if state.get("format") != FORMAT:
                raise ValueError("another version of vsr wrote it")
            theirs, training = dict(state["plan"]), dict(state["training"])
        except _UNREADABLE as error:
            remedy = "." if self._begins_anew else "; --restart begins anew."
            raise ModelError(
                f"the state of a stopped training, {self.path}, cannot be used "
                f"({str(error)[:120]}){remedy}"
            ) from None
        if changed := _first_difference(theirs, self._plan):
            raise UsageError(
                f"a stopped training of {self._output} differs in its {changed}"
                + ("." if self._begins_anew else ": give the same command to go on, or --restart.")
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
