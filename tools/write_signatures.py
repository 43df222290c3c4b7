"""Write the options of commands and of Python calls into their signatures.

    python -m tools.write_signatures [--check]

Typer reads a command's options from a function's parameters, and editors complete the keywords of
`vsr.run(...)` from them: both must stand in the source. They are written here from the classes that
declare them, between a line `# options of vsr COMMAND, by tools/write_signatures.py` and a line
`# end of options`. With `--check` nothing is written, and files that are out of date are named.
"""

import json
import re
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from textwrap import wrap
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from vsr.evaluate.mos import SheetOptions
from vsr.evaluate.preview import PREVIEW_OPTIONS
from vsr.evaluate.score import ScoreOptions
from vsr.pipeline.inspection import INSPECT_OPTIONS
from vsr.pipeline.options import Recipe, RunFiles
from vsr.records import Keyword, keywords
from vsr.train.options import (
    DatasetTraining,
    Distilling,
    KernelSearch,
    KeyframeTraining,
    ShotTraining,
)

ROOT = Path(__file__).resolve().parents[1]
COMMANDS: dict[str, tuple[type, ...]] = {
    "run": (RunFiles, Recipe),
    "steady": (RunFiles, Recipe),
    "train-keyframe": (KeyframeTraining,),
    "train-shot": (ShotTraining,),
    "distil": (Distilling,),
    "kernel": (KernelSearch,),
    "train": (DatasetTraining,),
    "mos-sheet": (SheetOptions,),
    "score": (ScoreOptions,),
    "preview": (Recipe,),
    "inspect": (Recipe,),
}
ONLY = {"preview": PREVIEW_OPTIONS, "inspect": INSPECT_OPTIONS}
"""Keys of the options that a command offers, where those are a few of its class."""
LAID_OVER_FILES = (Recipe,)
"""Classes that a recipe file may have set: None alone leaves an option to the file."""
HELP_WIDTH = 78
REGION = re.compile(
    r"(# options of vsr (\S+), by tools/write_signatures\.py\n).*?( *# end of options\n)",
    re.DOTALL,
)


def main() -> None:
    """Write the signatures; with `--check` name the files that are out of date and exit with 1."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    is_check = parser.parse_args().check
    changed = False
    for path in sorted((ROOT / "vsr").rglob("*.py")):
        before = path.read_text("utf-8")
        if REGION.search(before) and (after := with_signatures(path, before)) != before:
            changed = True
            print(f"{'out of date' if is_check else 'written'}: {path.relative_to(ROOT)}")
            if not is_check:
                path.write_text(after, "utf-8")
    sys.exit(changed and is_check)


def with_signatures(path: Path, text: str) -> str:
    """Fill every region of a source file, and format the file as ruff does."""
    render = command_parameter if path.parent.name == "cli" else call_parameter

    def fill(region: re.Match[str]) -> str:
        begin, command, end = region.groups()
        return begin + "".join(parameters(command, render)) + end

    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(path), "-"]
    filled = REGION.sub(fill, text)
    return subprocess.run(ruff, input=filled, capture_output=True, text=True, check=True).stdout


def parameters(command: str, render: Callable[[Keyword, bool], str]) -> Iterator[str]:
    """Render the options that a command offers, in the order of their declaration."""
    for cls in COMMANDS[command]:
        for each in keywords(cls):
            if command in ONLY:
                is_offered = each.key in ONLY[command]
            else:
                is_offered = not each.option.commands or command in each.option.commands
            if is_offered:
                yield render(each, cls in LAID_OVER_FILES)


def command_parameter(each: Keyword, is_laid_over: bool) -> str:
    """Render an option for typer, which gets what it cannot convert itself as text."""
    option, kinds = each.option, members(each.type)
    simple = kinds[0] in (bool, int, float) and len(kinds) == 1
    kind = kinds[0].__name__ if simple else "str"
    default = None if is_laid_over else each.default
    metavar = option.metavar
    if not metavar and get_origin(kinds[0]) is Literal:
        metavar = "|".join(get_args(kinds[0]))
    details = [json.dumps(flag) for flag in option.flags]
    details += [f"metavar={json.dumps(metavar)}"] if metavar else []
    help_text = option.help
    if is_laid_over and each.default not in (None, False):
        shown = f"{each.default:g}" if isinstance(each.default, float) else each.default
        help_text = f"{help_text.removesuffix('.')}; default: {shown}."
    # Longer texts than a line holds are written as several, which Python joins.
    lines = wrap(help_text, HELP_WIDTH, drop_whitespace=False)
    details += [f"help={' '.join(map(json.dumps, lines))}"]
    optional = " | None" if default is None else ""
    declared = f"typer.Option({', '.join(details)})"
    return f"    {option.keyword}: Annotated[{kind}{optional}, {declared}] = {literal(default)},\n"


def call_parameter(each: Keyword, is_laid_over: bool) -> str:
    """Render an option as a keyword of a Python call."""
    default = None if is_laid_over else each.default
    kinds = list(members(each.type))
    if Path in kinds or (str in kinds and "FILE" in each.option.metavar):
        kinds = [str, Path]
    names = [source(kind) for kind in kinds] + ["None"] * (default is None)
    if "FUNCTION" in each.option.metavar:
        # A program gives the function itself.
        names.insert(1, "PolicyFunction")
    return f"    {each.option.keyword}: {' | '.join(names)} = {literal(default)},\n"


def members(kind: Any) -> Sequence[Any]:
    """List the members of a union but for None; another type is its own only member."""
    if get_origin(kind) not in (Union, UnionType):
        return [kind]
    return [member for member in get_args(kind) if member is not NoneType]


def source(kind: Any) -> str:
    """Write a type as Python source; calls take any sequence for a tuple."""
    if get_origin(kind) is Literal:
        return f"Literal[{', '.join(json.dumps(word) for word in get_args(kind))}]"
    if get_origin(kind) is tuple:
        return f"Sequence[{source(get_args(kind)[0])}]"
    return str(kind.__name__)


def literal(default: Any) -> str:
    """Write a default as Python source."""
    return json.dumps(default) if isinstance(default, str) else repr(default)


if __name__ == "__main__":
    main()
