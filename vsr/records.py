"""Read recipes, cards and states strictly: TOML or tables -> frozen dataclasses."""

import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vsr.errors import UsageError

MAX_RECIPE_BYTES = 2**20


T = TypeVar("T")


Table = dict[str, Any]


def load_recipe(cls: type[T], path: Path | None = None, settings: Sequence[str] = ()) -> T:
    """The recipe of a TOML file, or `cls`'s defaults without one, with `settings` ("a.b=value")
    over it.

    Raises UsageError where the file cannot be read or holds what `cls` does not.
    """
    table = _read_toml(path) if path else {}
    for setting in settings:
        _apply_setting(table, setting)
    return from_table(cls, table)


def from_table(cls: type[T], table: Mapping[str, object], prefix: str = "") -> T:
    """A dataclass from a table of its fields, checked all the way down; `prefix` is the table's own
    dotted path.

    Fields may be str, int, float (a whole number is taken), bool, Literal, tuple[T, ...],
    dataclasses and unions. Raises UsageError with the dotted path of the first key that is unknown,
    missing or of the wrong type.
    """
    types = get_type_hints(cls)
    known = fields(cls)  # type: ignore[arg-type]
    names = [field.name for field in known]
    for key in table:
        if key not in names:
            hint = _nearest(key, names) or f"; known here are {', '.join(names)}"
            raise UsageError(f"unknown key {prefix + key!r} in the recipe{hint}")
    for field in known:
        if (
            field.name not in table
            and field.default is MISSING
            and field.default_factory is MISSING
        ):
            raise UsageError(
                f"the recipe lacks {prefix + field.name!r}: give it {_describe(types[field.name])}"
            )
    values: Table = {key: _convert(value, types[key], prefix + key) for key, value in table.items()}
    return cls(**values)


def with_settings(options: T, settings: Sequence[str]) -> T:
    """The same dataclass with `settings` ("a.b=value") over it. Raises UsageError as `from_table`
    does."""
    table = to_table(options)
    for setting in settings:
        _apply_setting(table, setting)
    return from_table(type(options), table)


def to_table(recipe: object) -> Table:
    """A dataclass as a table of plain dicts, lists and scalars, for JSON; `from_table` makes it
    whole again."""
    return {field.name: _to_plain(getattr(recipe, field.name)) for field in fields(recipe)}  # type: ignore[arg-type]


def _to_plain(value: object) -> object:
    if is_dataclass(value):
        return to_table(value)
    if isinstance(value, tuple):
        return [_to_plain(item) for item in value]
    return value


def _read_toml(path: Path) -> Table:
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"cannot read the recipe {path}: not an ordinary file")
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise UsageError(
                f"the recipe {path} is larger than {MAX_RECIPE_BYTES} bytes; it is not one of vsr"
            )
        return _parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the recipe {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"the recipe {path} is not TOML: {error}") from error


def _parse_toml(text: str) -> Table:
    """Raises ValueError for what is not TOML."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("its tables or lists are nested too deeply") from None


def _apply_setting(table: Table, setting: str) -> None:
    """Put "a.b=value" into the table. The value is TOML; what is not, is taken as a bare word."""
    dotted, equals, text = setting.partition("=")
    if not equals or not all(dotted.strip().split(".")):
        raise UsageError(
            f"cannot take the setting {setting!r}: write it as key=value, such as a.b=1"
        )
    try:
        value = _parse_toml(f"value = {text}")["value"]
    except ValueError:
        value = text.strip()
    _set_dotted(table, dotted.strip(), value)


def _set_dotted(table: Table, dotted: str, value: object) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UsageError(f"cannot set {dotted!r}: {parent!r} is a value, not a table")
    table[last] = value


def _convert(value: object, wanted: object, path: str) -> object:
    """`value` as the type `wanted`, or UsageError."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if isinstance(wanted, type) and is_dataclass(wanted) and isinstance(value, dict):
        return from_table(wanted, value, f"{path}.")
    if origin in (Union, UnionType):
        return _convert_union(value, wanted, path)
    if origin is tuple and isinstance(value, list):
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            pairs = enumerate(zip(value, kinds, strict=True))
            return tuple(_convert(item, kind, f"{path}[{i}]") for i, (item, kind) in pairs)
    if wanted is float and type(value) in (int, float):
        if not isfinite(value):  # type: ignore[arg-type]
            raise UsageError(f"{path!r} in the recipe is {value!r}: expected a finite number")
        return float(value)  # type: ignore[arg-type]
    # Not isinstance, nor == alone: true is no whole number here.
    if type(value) is wanted or any(
        type(value) is type(choice) and value == choice for choice in arguments
    ):
        return value
    hint = _nearest(value, arguments) if origin is Literal and isinstance(value, str) else ""
    raise UsageError(f"{path!r} in the recipe is {value!r}: expected {_describe(wanted)}{hint}")


def _convert_union(value: object, wanted: object, path: str) -> object:
    """`value` as the first member of a union that takes it; of `T | None` the error is that of
    T."""
    members = [member for member in get_args(wanted) if member is not NoneType]
    if value is None and NoneType in get_args(wanted):
        return None
    if len(members) == 1:
        return _convert(value, members[0], path)
    for member in members:
        with suppress(UsageError):
            return _convert(value, member, path)
    raise UsageError(
        f"{path!r} in the recipe is {value!r}: expected {' or '.join(map(_describe, members))}"
    )


def _describe(wanted: object) -> str:
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    if get_origin(wanted) is Literal:
        return " or ".join(repr(choice) for choice in get_args(wanted))
    if get_origin(wanted) is tuple:
        return f"a list, each item {_describe(get_args(wanted)[0])}"
    return next((name for kind, name in names.items() if kind is wanted), "a table")


def _nearest(name: str, known: Sequence[str]) -> str:
    matches = get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
