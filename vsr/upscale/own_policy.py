"""Policies of the user's own: a function in a Python file, or one of the calling program."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Literal

import torch

from vsr.engine.graphs import Upscale
from vsr.errors import UsageError, VsrError
from vsr.image.resample import scaled_size
from vsr.upscale.policy import PlainPolicy, Policy, PolicyContext, PolicyStage
from vsr.video.step import State, Step

PolicyFunction = Callable[[PolicyContext], PolicyStage | Upscale]
"""Looks at what there is to work with and returns a stage, or a function that enlarges one frame:
(3, h, w) in [0, 1] -> (3, scale h, scale w)."""
SUFFIX = ".py"
_given: dict[str, PolicyFunction] = {}
"""Functions of this process by the names that recipes and manifests have for them."""


def name_of(function: PolicyFunction) -> str:
    """Name a function of this process as recipes hold it, and keep it under that name."""
    module = getattr(function, "__module__", "")
    name = f"{module}:{getattr(function, '__qualname__', type(function).__qualname__)}"
    # A run looks it up when it is opened: a later function of the same name is for later runs.
    _given[name] = function
    return name


def is_in_file(name: str) -> bool:
    """Whether a policy's name is that of a function in a file, as `file.py:function`."""
    return name.rpartition(":")[0].endswith(SUFFIX) or name.endswith(SUFFIX)


def find_own_policy(name: str, has_models: bool) -> Policy | None:
    """Find the policy of a function that was given, or of one in a file; None for another name.

    Where there are models the bank is loaded for it. Raises UsageError for a file that cannot be
    run and for one without that function.
    """
    needs: Literal["bank", "file"] = "bank" if has_models else "file"
    if name in _given:
        function = _given[name]
        return Policy(name, lambda c: _stage_of(name, function, c), "a function", needs)
    if not is_in_file(name):
        return None
    path, _, attribute = name.rpartition(":")
    if not path or not attribute:
        raise UsageError(f"--policy is {name}; expected FILE.py:FUNCTION.")
    function = _load(Path(path), attribute, name)

    def make(context: PolicyContext) -> PolicyStage:
        try:
            stage = _stage_of(name, function, context)
        except VsrError:
            raise
        except Exception as error:
            raise _failure(name, error) from error
        return _GuardedStage(stage, name, Path(path), context)

    return Policy(name, make, "a function in a file", needs, files=(Path(path),))


def _stage_of(name: str, function: PolicyFunction, context: PolicyContext) -> PolicyStage:
    """Call the function; one that returns a function of a frame has made a stage by that."""
    made = function(context)
    if isinstance(made, PolicyStage):
        return made
    if not callable(made):
        raise UsageError(
            f"policy {name} returned a {type(made).__name__}; expected a PolicyStage, or a "
            "function of a frame (3, h, w)."
        )
    return PlainPolicy(context, made)


class _GuardedStage(PolicyStage):
    """A stage from a user's file, whose mistakes are the user's."""

    def __init__(self, stage: PolicyStage, name: str, path: Path, context: PolicyContext) -> None:
        super().__init__(context.notify)
        self._stage, self._name, self._path, self._scale = stage, name, path, context.scale
        self.decisions = stage.decisions
        self.rewind = stage.rewind

    def through(self, steps: Iterator[Step]) -> Iterator[Step]:
        """Give the steps their pictures, of the size and kind that the next stages expect."""
        try:
            for step in self._stage.through(steps):
                yield step if step.is_done else replace(step, picture=self._checked(step))
        except VsrError:
            raise
        except Exception as error:
            # What reads and what writes the steps raises through here, too.
            if not _passes_through(error, self._path):
                raise
            raise _failure(self._name, error) from error

    def state(self) -> State:
        """The stage's own."""
        return self._stage.state()

    def restore(self, state: State) -> None:
        """Hand the state to the stage."""
        self._stage.restore(state)
        self.decisions = self._stage.decisions

    def _checked(self, step: Step) -> torch.Tensor:
        picture = step.picture
        height, width = step.frame.pixels.shape[-2:]
        wanted = (3, *scaled_size(height, width, self._scale))
        found = (
            tuple(picture.shape) if isinstance(picture, torch.Tensor) else type(picture).__name__
        )
        if picture is None or found != wanted:
            raise UsageError(
                f"policy {self._name} made {found} of frame {step.frame.index}; expected a tensor "
                f"of {wanted}."
            )
        return picture.float().clamp(0, 1)


def _load(path: Path, attribute: str, name: str) -> PolicyFunction:
    """Run a Python file and return its function."""
    if not path.is_file():
        raise UsageError(f"policy {name}: there is no file {path}; expected FILE.py:FUNCTION.")
    module = _run_file(path, name)
    function = getattr(module, attribute, None)
    if not callable(function):
        own = [
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        ]
        raise UsageError(
            f"policy {name}: {path} has no function {attribute}; it has {', '.join(own) or 'none'}."
        )
    checked: PolicyFunction = function
    return checked


def _run_file(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"vsr_policy_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[module.__name__] = module
    try:
        spec.loader.exec_module(module)
    except VsrError:
        raise
    except Exception as error:
        raise _failure(name, error) from error
    return module


def _passes_through(error: BaseException, path: Path) -> bool:
    """Whether an error was raised in a file, or in what the file called."""
    trace, wanted = error.__traceback__, str(path.resolve())
    while trace is not None:
        if str(Path(trace.tb_frame.f_code.co_filename).resolve()) == wanted:
            return True
        trace = trace.tb_next
    return False


def _failure(name: str, error: Exception) -> UsageError:
    first_line = str(error).partition("\n")[0]
    line, trace = "", error.__traceback__
    path = Path(name.rpartition(":")[0])
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).resolve() == path.resolve():
            line = f", line {trace.tb_lineno}"
        trace = trace.tb_next
    return UsageError(f"policy {name} raised {type(error).__name__}{line}: {first_line}")
