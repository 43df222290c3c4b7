"""Options declared once, and the one strict loader: TOML, JSON, keywords -> frozen dataclasses.

A class of options is a frozen dataclass whose fields are made by `option`: each declares its help
text, its limits and its flags. The command line and the keywords of Python calls (both written by
`tools/write_signatures.py`), the keys of recipes and of `--set`, help texts, checks of ranges and
error messages all follow from these fields. Cards, states and other files are read by the same
loader.
"""

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from functools import partial
from math import inf, isfinite
from os import PathLike, fspath
from pathlib import Path
from reprlib import Repr
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vsr.errors import UsageError, VsrError

MAX_RECIPE_BYTES = 2**20
MAX_NUMBER = 1e300
"""Larger ones are taken for infinite: their first product would be."""
_OPTION = "option"
_SHOWN = Repr()
"""Shortens values in messages: a hostile file must not fill the terminal."""
_SHOWN.maxstring = _SHOWN.maxother = 80

T = TypeVar("T")
Table = dict[str, Any]


@dataclass(frozen=True)
class Option:
    """Declaration of one field. Limits hold for every number in its value."""

    help: str = ""
    flags: tuple[str, ...] = ()
    """On the command line; a field without flags is set by recipes and `--set` alone."""
    metavar: str = ""
    at_least: float = -inf
    above: float = -inf
    at_most: float = inf
    below: float = inf
    formerly: str = ""
    """An earlier name of the key, which is answered with the new one."""
    commands: tuple[str, ...] = ()
    """Commands that offer it; where empty, all that read its class."""

    @property
    def keyword(self) -> str:
        """Name in Python calls: that of the long flag; empty without one."""
        return self.long_flag.removeprefix("--").replace("-", "_")

    @property
    def long_flag(self) -> str:
        """First flag that is a word, such as `--scale`; empty without one."""
        return next((flag for flag in self.flags if flag.startswith("--")), "")

    @property
    def span(self) -> str:
        """The limits in words, to follow the name of a type."""
        bounds = {
            "from": self.at_least,
            "above": self.above,
            "to": self.at_most,
            "to below": self.below,
        }
        return "".join(f" {word} {at:.15g}" for word, at in bounds.items() if isfinite(at))

    def takes(self, number: float) -> bool:
        """Tell whether a number lies within the limits."""
        return self.at_least <= number <= self.at_most and self.above < number < self.below


_UNLIMITED = Option()


def option(
    default: T,
    help: str,
    *flags: str,
    metavar: str = "",
    at_least: float = -inf,
    above: float = -inf,
    at_most: float = inf,
    below: float = inf,
    formerly: str = "",
    commands: tuple[str, ...] = (),
) -> T:
    """Declare a field of an options class; see `Option`."""
    declared = Option(help, flags, metavar, at_least, above, at_most, below, formerly, commands)
    return field(default=default, metadata={_OPTION: declared})


def limits(
    *, at_least: float = -inf, above: float = -inf, at_most: float = inf, below: float = inf
) -> dict[str, Option]:
    """Metadata that limits a field without a default: `field(metadata=limits(at_least=1))`."""
    return {_OPTION: Option(at_least=at_least, above=above, at_most=at_most, below=below)}


@dataclass(frozen=True)
class Keyword:
    """One option of a class as commands and Python calls know it."""

    key: str
    """Dotted name within the class."""
    type: Any
    default: Any
    option: Option


def keywords(cls: type, prefix: str = "") -> Iterator[Keyword]:
    """List the options of a class that have a flag, those of classes within it in their place."""
    # Annotations may be texts; only resolved types tell a nested class.
    types = get_type_hints(cls)
    for each in fields(cls):
        declared = each.metadata.get(_OPTION, _UNLIMITED)
        if declared.keyword:
            yield Keyword(prefix + each.name, types[each.name], each.default, declared)
        elif is_dataclass(types[each.name]):
            yield from keywords(types[each.name], f"{prefix}{each.name}.")


@dataclass(frozen=True)
class Origin:
    """Source of a table: how messages name it, and what a mistake in it raises."""

    name: str
    error: type[VsrError] = UsageError
    lenient: bool = False
    """Unknown keys are passed over, as in files that a newer version may have written."""


SETTINGS = Origin("the settings")


def load_options(
    cls: type[T],
    path: Path | None = None,
    settings: Sequence[str] = (),
    given: Mapping[str, object] | None = None,
) -> T:
    """Read a class of options: its defaults, over them a TOML file, `settings` ("a.b=value"), and
    what a call was given.

    `given` holds values by keyword, as Python objects or in the words of the command line; None
    stands for "not given", and names that are no keywords of the class are passed over. Raises
    UsageError where the file cannot be read, or for the first value that `cls` does not take.
    """
    table: Table = {}
    if path is not None:
        table = _read_toml(path)
        # The file by itself first, so that an error in it names the file.
        from_table(cls, table, Origin(str(path)))
    for setting in settings:
        _apply_setting(table, setting)
    for each in keywords(cls):
        value = (given or {}).get(each.option.keyword)
        if value is not None:
            plain = _from_call(value, each.type)
            # The value alone first, so that an error names its flag.
            try:
                _convert(plain, each.type, each.option.long_flag, each.option)
            except ValueError as error:
                raise UsageError(f"{error}.") from None
            _set_dotted(table, each.key, plain)
    return from_table(cls, table)


def from_table(cls: type[T], table: Mapping[str, object], origin: Origin = SETTINGS) -> T:
    """Make a dataclass of a table of its fields, checked all the way down.

    Fields may be str, int, float (a whole number is taken), bool, Path, Literal, tuples, dicts of
    text keys, dataclasses and unions of these; Any takes everything. Raises the origin's error with
    the dotted path of the first key that is unknown, missing, of the wrong type or out of its
    limits, and for a ValueError of a `__post_init__`.
    """
    try:
        return _build(cls, table, "", origin.lenient)
    except ValueError as error:
        raise origin.error(f"{origin.name}: {error}.") from None


def from_json(cls: type[T], text: str | bytes, origin: Origin) -> T:
    """Make a dataclass of the text of a JSON object. Raises the origin's error."""
    return from_table(cls, parse_json(text, origin), origin)


def from_metadata(cls: type[T], metadata: Mapping[str, str], origin: Origin) -> T:
    """Make a dataclass of texts by field name, each JSON, as in the metadata of safetensors.

    Raises the origin's error.
    """
    names = {each.name for each in fields(cls)}  # type: ignore[arg-type]
    table = {
        name: _parse(partial(json.loads, text), f"holds a {name} that is not JSON", origin)
        for name, text in metadata.items()
        if name in names or not origin.lenient
    }
    return from_table(cls, table, origin)


def parse_json(text: str | bytes, origin: Origin) -> Table:
    """Parse a JSON object. Raises the origin's error for anything else."""
    table = _parse(partial(json.loads, text), "is not JSON", origin)
    if not isinstance(table, dict):
        raise origin.error(f"{origin.name}: expected a JSON object, in braces.")
    return table


def with_settings(options: T, settings: Sequence[str]) -> T:
    """Lay `settings` ("a.b=value") over options. Raises UsageError as `from_table` does."""
    table = to_table(options)
    for setting in settings:
        _apply_setting(table, setting)
    return from_table(type(options), table)


def to_table(options: object) -> Table:
    """Turn a dataclass into plain dicts, lists and scalars, for JSON; `from_table` takes them
    back."""
    return {each.name: _to_plain(getattr(options, each.name)) for each in fields(options)}  # type: ignore[arg-type]


def _to_plain(value: object) -> object:
    if is_dataclass(value):
        return to_table(value)
    if isinstance(value, tuple):
        return [_to_plain(item) for item in value]
    return fspath(value) if isinstance(value, PathLike) else value


def _from_call(value: object, wanted: Any) -> object:
    """Turn an argument of a call into what a recipe would hold in its place."""
    if isinstance(value, PathLike):
        return fspath(value)
    if not isinstance(value, str):
        return list(value) if isinstance(value, Sequence) else value
    members = [member for member in _members(wanted) if member is not NoneType]
    if any(get_origin(member) is tuple for member in members):
        return [name.strip() for name in value.split(",") if name.strip()]
    return value if members[0] in (str, Path) else _parse_value(value)


def _read_toml(path: Path) -> Table:
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"cannot read the recipe {path}: not a regular file")
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise UsageError(
                f"the recipe {path} is larger than {MAX_RECIPE_BYTES} bytes; it is not one of vsr"
            )
        origin = Origin(f"the recipe {path}")
        table: Table = _parse(
            lambda: tomllib.loads(path.read_text(encoding="utf-8-sig")), "is not TOML", origin
        )
    except OSError as error:
        raise UsageError(f"cannot read the recipe {path}: {error.strerror}") from error
    return table


def _parse(parse: Callable[[], Any], fault: str, origin: Origin) -> Any:
    try:
        return parse()
    except RecursionError:
        raise origin.error(f"{origin.name} {fault}: nested too deeply.") from None
    except ValueError as error:
        raise origin.error(f"{origin.name} {fault}: {error}.") from None


def _apply_setting(table: Table, setting: str) -> None:
    """Put "a.b=value" into the table. The value is TOML; what is not, is taken as a bare word."""
    dotted, equals, text = setting.partition("=")
    if not equals or not all(dotted.strip().split(".")):
        raise UsageError(
            f"cannot take the setting {setting!r}: write it as key=value, such as a.b=1"
        )
    _set_dotted(table, dotted.strip(), _parse_value(text))


def _parse_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text.strip()


def _set_dotted(table: Table, dotted: str, value: object) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UsageError(f"cannot set {dotted!r}: {parent!r} is a value, not a table")
    table[last] = value


def _build(cls: type[T], table: Mapping[str, object], prefix: str, lenient: bool) -> T:
    """Raise ValueError, with the dotted path of the key, for what does not fit."""
    types = get_type_hints(cls)
    known = {each.name: each for each in fields(cls)}  # type: ignore[arg-type]
    declared = {name: each.metadata.get(_OPTION, _UNLIMITED) for name, each in known.items()}
    for key in table:
        if key not in known and not lenient:
            raise ValueError(_unknown_key(prefix, key, declared))
    for name, each in known.items():
        if name not in table and each.default is MISSING and each.default_factory is MISSING:
            wanted = _describe(types[name], declared[name])
            raise ValueError(f"{prefix}{name} is missing; give it {wanted}")
    values: Table = {
        key: _convert(value, types[key], prefix + key, declared[key], lenient)
        for key, value in table.items()
        if key in known
    }
    # Fields that the table lacks get their defaults here, which are not checked.
    return cls(**values)


def _unknown_key(prefix: str, key: str, declared: Mapping[str, Option]) -> str:
    renamed = [name for name, each in declared.items() if each.formerly == key]
    if renamed:
        return f"{prefix}{key} was renamed to {prefix}{renamed[0]}: write that"
    hint = _nearest(key, list(declared)) or f"; known here are {', '.join(declared)}"
    return f"unknown key {_SHOWN.repr(prefix + key)}{hint}"


def _convert(
    value: Any, wanted: Any, path: str, declared: Option = _UNLIMITED, lenient: bool = False
) -> Any:
    """Return `value` as the type `wanted`, within the limits declared, or raise ValueError."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        return _convert_union(value, wanted, path, declared, lenient)
    if isinstance(wanted, type) and is_dataclass(wanted) and isinstance(value, dict):
        return _build(wanted, value, f"{path}.", lenient)
    if origin is dict and isinstance(value, dict):
        return {
            key: _convert(item, arguments[1], f"{path}.{key}", declared, lenient)
            for key, item in value.items()
        }
    if origin is tuple and isinstance(value, list):
        # tuple[T, ...] is of any length, tuple[T, U] of two.
        kinds = (arguments[0],) * len(value) if arguments[-1] is ... else arguments
        if len(kinds) == len(value):
            return tuple(
                _convert(item, kind, f"{path}[{i}]", declared, lenient)
                for i, (item, kind) in enumerate(zip(value, kinds, strict=True))
            )
    return _convert_scalar(value, wanted, path, declared)


def _convert_scalar(value: Any, wanted: Any, path: str, declared: Option) -> Any:
    if wanted in (int, float) and type(value) in (int, wanted):
        if abs(value) <= MAX_NUMBER and declared.takes(value):
            return wanted(value)
    # Not isinstance, nor == alone: true is no whole number here.
    elif wanted in (Any, type(value)) or any(
        type(value) is type(choice) and value == choice for choice in get_args(wanted)
    ):
        return value
    elif wanted is Path and isinstance(value, str):
        return Path(value)
    is_word = get_origin(wanted) is Literal and isinstance(value, str)
    hint = _nearest(value, get_args(wanted)) if is_word else ""
    raise _mismatch(value, wanted, path, declared, hint)


def _convert_union(value: Any, wanted: Any, path: str, declared: Option, lenient: bool) -> Any:
    """Return `value` as the first member of a union that takes it; of `T | None` the error is that
    of T."""
    members = [member for member in get_args(wanted) if member is not NoneType]
    if value is None and NoneType in get_args(wanted):
        return None
    if len(members) == 1:
        return _convert(value, members[0], path, declared, lenient)
    for member in members:
        with suppress(ValueError):
            return _convert(value, member, path, declared, lenient)
    raise _mismatch(value, wanted, path, declared)


def _mismatch(
    value: object, wanted: Any, path: str, declared: Option, hint: str = ""
) -> ValueError:
    return ValueError(
        f"{path} is {_SHOWN.repr(value)}; expected {_describe(wanted, declared)}{hint}"
    )


def _members(wanted: Any) -> tuple[Any, ...]:
    return get_args(wanted) if get_origin(wanted) in (Union, UnionType) else (wanted,)


def _describe(wanted: Any, declared: Option) -> str:
    """Say in words what a type takes: "a whole number from 0, 'longest' or 'all'"."""
    *most, last = _words(wanted, declared)
    return f"{', '.join(most)} or {last}" if most else last


def _words(wanted: Any, declared: Option) -> list[str]:
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        return list(map(repr, arguments))
    if origin in (Union, UnionType):
        members = [member for member in arguments if member is not NoneType]
        return [word for member in members for word in _words(member, declared)]
    if origin is tuple:
        number = "" if arguments[-1] is ... else f" of {len(arguments)} items"
        return [f"a list{number}, each item {_describe(arguments[0], declared)}"]
    names = {
        str: "a text",
        Path: "a text",
        bool: "true or false",
        int: f"a whole number{declared.span}",
        float: f"a number{declared.span}" if declared.span else "a finite number",
    }
    return [next((name for kind, name in names.items() if kind is wanted), "a table")]


def _nearest(name: str, known: Sequence[str]) -> str:
    matches = get_close_matches(name, known, n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
