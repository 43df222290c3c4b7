"""The options of a run, and TOML -> frozen dataclasses, strictly: nothing else reads TOML.

A key that is left out has the default of its field; there is no other inheritance and there are no
expressions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vsr.errors import UsageError
from vsr.records import _apply_setting, _read_toml, _set_dotted, from_table
from vsr.upscale import PolicyOptions
from vsr.video.reader import ReadOptions
from vsr.video.shots import ShotOptions
from vsr.video.writer import EncodeOptions

MIN_TILE = 32
"""Smaller ones would spend their time on their borders."""


@dataclass(frozen=True)
class Recipe:
    """The options of a run. The command line beats the recipe file, which beats these defaults."""

    policy: str | None = None
    """Where not given, the one that suits the bank."""
    upscaler: str | None = None
    """File of a network that takes the policy's place; an empty text is the same as none."""
    sample: int = 0
    """Number of the noise that a stochastic `network_policy` draws."""
    scale: float = 4.0
    """Output sides over input sides; any number from 1."""
    steady: float | Literal["auto"] | None = None
    """Strength of the flicker control, 0 (none) to 1; where not given, `auto` for policies with
    models, else 0."""
    target_flicker: float | None = None
    """Change along the motion over the source's own: chooses the strength for each shot."""
    train_ahead: bool = False
    """Policy `shot`: train the model of each shot while the one before is enlarged."""
    metrics: tuple[str, ...] | None = None
    """Names of the metrics of the frames before encoding; where not given, those that cost
    little."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    dtype: str = "auto"
    """What networks compute in: `fp32`, `bf16`, `fp16`, or `auto`, the fastest that the device
    has."""
    tile: int | None = None
    """Networks work on at most so many pixels, squared, at once; where not given, what suits the
    device."""
    threads: int | None = None
    """Cores to use; where not given, all."""
    compare: tuple[str, ...] = ()
    """Policies to compare on a clip with a truth: nothing is written, a table is printed."""
    read: ReadOptions = ReadOptions()
    policies: PolicyOptions = PolicyOptions()
    shots: ShotOptions = ShotOptions()
    encode: EncodeOptions = EncodeOptions()

    def __post_init__(self) -> None:
        if isinstance(self.steady, float) and not 0 <= self.steady <= 1:
            raise UsageError(f"steady is {self.steady:g}; expected a number from 0 to 1, or auto.")
        for name, value, minimum in (("tile", self.tile, MIN_TILE), ("threads", self.threads, 1)):
            if value is not None and value < minimum:
                raise UsageError(f"{name} is {value}; expected a whole number from {minimum}.")
        if self.target_flicker is not None and not self.target_flicker > 0:
            raise UsageError(
                f"target_flicker is {self.target_flicker:g}; expected a number above 0, such as 1."
            )
        if self.target_flicker is not None and self.steady is not None:
            raise UsageError(
                "steady and target_flicker both set the strength of the flicker control; give one."
            )


def resolve_recipe(
    path: Path | None, settings: Sequence[str], options: Mapping[str, object]
) -> Recipe:
    """The recipe file, with `settings` ("a.b=value") over it, and over both `options`, by dotted
    key; None: not given.

    Raises UsageError as `load_recipe` does.
    """
    table = _read_toml(path) if path else {}
    for setting in settings:
        _apply_setting(table, setting)
    for dotted, value in options.items():
        if value is not None:
            _set_dotted(table, dotted, list(value) if isinstance(value, tuple) else value)
    return from_table(Recipe, table)
