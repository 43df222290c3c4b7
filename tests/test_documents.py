"""The texts of the project: what they promise is there, and what they tell a user to type works."""

import ast
import re
from itertools import chain
from pathlib import Path

import pytest
import typer

from vsr import cli

ROOT = Path(__file__).resolve().parents[1]
GENERATED = {ROOT / "docs" / "matrix.md", ROOT / "docs" / "upscalers.md"}
"""Written by commands, whose own tests hold them."""
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "benchmarks" / "README.md",
        ROOT / "samples" / "SOURCES.md",
    ]
)
HISTORY = ROOT / "CHANGELOG.md"
"""May name what is gone."""
MOST_WORDS_OF_README = 1150
LONGEST_LINE = 160

INSTALLS_ANOTHER_PROJECT = re.compile(
    r"\b(?:pip3?|pipx|uv(?: pip| tool)?) +(?:install|add) +(?:[^\s`\"']+ +)*[\"']?vsr(?![\w-])"
    r"|(?<![\w-])vsr\[[a-z]"
)
"""What PyPI has under the name of our package and command is somebody else's project."""
PRIVATE_WORDS = re.compile(
    r"\bseed 00\d|\bmethod-spec\b|\basked: |\bwithout flicker(?!\s+control)", re.IGNORECASE
)
"""Words that mean nothing to a reader of the repository, or that are not true."""
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
NAMED_PATH = re.compile(r"`((?:benchmarks|docs|pipelines|samples|tests|vsr)/[\w./-]*)`")
BENCHMARK = re.compile(r"python -m benchmarks\.([a-z]\w*)")
CODE = re.compile(r"^```\w*\n(.*?)^```|^ {4}(?! *[-*])(.*?)$|`([^`]+)`", re.MULTILINE | re.DOTALL)
"""Fenced blocks, indented lines and spans."""


def place_of(path):
    return str(path.relative_to(ROOT))


def read(path):
    return path.read_text(encoding="utf-8")


def texts():
    """Every text that a user may read, by its place: documents, recipes, strings of the package."""
    metadata = [ROOT / "pyproject.toml", ROOT / "CITATION.cff"]
    whole = [*DOCUMENTS, *(ROOT / "pipelines").glob("*.toml"), *metadata]
    found = {place_of(path): read(path) for path in whole}
    for path in (ROOT / "vsr").rglob("*.py"):
        for node in ast.walk(ast.parse(read(path))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found[f"{place_of(path)}:{node.lineno}:{node.col_offset}"] = node.value
    return found


def anchors(document):
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", read(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code_of(document):
    """The pieces of code of a document, lines that end in a backslash joined."""
    text = re.sub(r"\\\n\s*", "", read(document))
    pieces = (next(filter(None, match.groups()), "") for match in CODE.finditer(text))
    lines = chain.from_iterable(piece.splitlines() for piece in pieces)
    return [line.partition(" #")[0].strip() for line in lines]


def calls_of_vsr(document):
    """What follows `vsr` in the document's code, in words: [command, ...]."""
    for line in code_of(document):
        for call in re.findall(r"(?:^|^[A-Z_]+=\S+ |[|;&] *|\.venv/bin/)vsr ([^|;&]*)", line):
            words = call.split()
            if words and words[0] != "COMMAND":
                yield words


def problem_of(words):
    """What the command line would not know of a call, or None."""
    command, rest = typer.main.get_command(cli.app), list(words)
    while hasattr(command, "commands"):
        if not rest:
            return None
        name = rest.pop(0)
        if name.startswith("-"):
            return None
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    unknown = [word for word in rest if re.fullmatch(r"--?[a-z][\w-]*", word) and word not in known]
    return f"no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize(
    "text",
    [
        "pip install vsr",
        "pip install 'vsr[ffmpeg]'",
        'python -m pip install -U "vsr==0.1"',
        "uv pip install -p .venv vsr",
        "pipx install vsr",
        "uv add vsr",
        "the extra vsr[train]",
    ],
)
def test_another_project_of_our_name_is_recognized(text):
    assert INSTALLS_ANOTHER_PROJECT.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "pip install -e .",
        "pip install -e '.[ffmpeg]'",
        "pip install steady-vsr",
        "pip install steady-vsr[train]",
        "pip install vsr-tools",
        "`pip install torch`, then `vsr run`",
    ],
)
def test_what_installs_no_other_project_is_let_through(text):
    assert not INSTALLS_ANOTHER_PROJECT.search(text)


def test_no_text_tells_a_user_to_install_another_project():
    found = {place: INSTALLS_ANOTHER_PROJECT.search(text) for place, text in texts().items()}
    assert {place: match.group() for place, match in found.items() if match} == {}


def test_no_document_uses_words_of_private_papers():
    ours = [path for path in DOCUMENTS if path not in GENERATED | {HISTORY}]
    found = {path.name: PRIVATE_WORDS.search(read(path)) for path in ours}
    assert {name: match.group() for name, match in found.items() if match} == {}


@pytest.mark.parametrize("document", DOCUMENTS, ids=place_of)
def test_every_link_within_the_project_resolves(document):
    broken = []
    for target in LINK.findall(read(document)):
        place, _, anchor = target.partition("#")
        if re.match(r"\w+:", place):
            continue
        linked = (document.parent / place).resolve() if place else document
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("document", sorted(set(DOCUMENTS) - {HISTORY}), ids=place_of)
def test_every_file_and_benchmark_that_is_named_exists(document):
    text = read(document)
    files = {name for name in NAMED_PATH.findall(text) if not (ROOT / name).exists()}
    scripts = {f"benchmarks/{name}.py" for name in BENCHMARK.findall(text)}
    assert files | {name for name in scripts if not (ROOT / name).exists()} == set()


def test_every_page_of_results_is_linked_from_their_index():
    linked = LINK.findall(read(ROOT / "docs" / "results.md"))
    pages = {f"results/{path.name}" for path in (ROOT / "docs" / "results").glob("*.md")}
    assert pages
    assert pages <= {target.partition("#")[0] for target in linked}


def test_every_command_of_the_documents_is_one_of_the_command_line():
    calls = {path: list(calls_of_vsr(path)) for path in DOCUMENTS if path != HISTORY}
    assert len(calls[ROOT / "README.md"]) > 20
    assert ["run", "samples/clip.mp4"] in [words[:2] for words in calls[ROOT / "README.md"]]
    problems = {
        f"{path.name}: vsr {' '.join(words)}": problem_of(words)
        for path, found in calls.items()
        for words in found
    }
    assert {call: problem for call, problem in problems.items() if problem} == {}


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ("run clip.mp4 --policy shot", None),
        ("weights fit-niqe A.png -o FILE.npz", None),
        ("upscale clip.mp4", "no command upscale"),
        ("mos send", "no command send"),
        ("run clip.mp4 --speed 3", "no option --speed"),
    ],
)
def test_a_call_that_the_command_line_does_not_know_is_found(call, problem):
    assert problem_of(call.split()) == problem


def test_the_readme_stays_short():
    assert len(read(ROOT / "README.md").split()) <= MOST_WORDS_OF_README


@pytest.mark.parametrize("document", sorted(set(DOCUMENTS) - GENERATED), ids=place_of)
def test_no_line_of_a_document_runs_off_the_screen(document):
    lines = read(document).splitlines()
    assert [number for number, line in enumerate(lines, 1) if len(line) > LONGEST_LINE] == []
