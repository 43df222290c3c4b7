"""The shape of the code under `vsr/`, in the figures that house rules are judged by.

python -m benchmarks.house [FOLDER ...]
"""

import ast
import io
import re
import sys
import tokenize
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.measure import print_table

LINE_LIMIT = 100
FEW_LINES = 60
MANY_PARAMETERS = 10
VAGUE_OPENINGS = ("What", "Of", "How", "The same", "Likewise", "As")
"""A docstring begins with a verb or a noun; these begin neither."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef


class Module:
    """One file: its name, its lines and its syntax tree."""

    def __init__(self, path: Path, root: Path) -> None:
        parts = path.relative_to(root.parent).with_suffix("").parts
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.is_package else parts)
        self.text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)
        self.code_lines, self.comment_lines = count_lines(self.text)

    def functions(self) -> list[Definition]:
        return [node for node in ast.walk(self.tree) if isinstance(node, Definition)]


def count_lines(text: str) -> tuple[set[int], set[int]]:
    """Numbers of the lines with code (docstrings count as none) and of those with a comment."""
    code, comments, is_new_statement = set[int](), set[int](), True
    layout = {tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type == tokenize.NEWLINE:
            is_new_statement = True
        elif token.type not in layout:
            # A string that begins a statement is a docstring of what stands above it.
            if not (token.type == tokenize.STRING and is_new_statement):
                code.update(range(token.start[0], token.end[0] + 1))
            is_new_statement = False
    return code, comments


def imports_when_imported(module: Module, known: set[str]) -> set[str]:
    """Modules that run when this one is imported: not those inside functions or for types alone."""
    found, waiting = set(), list(module.tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, Definition) or is_for_types(node):
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in known else node.module for name in inner)
        waiting.extend(child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))
    return (found & known) - {module.name}


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def longest_chain(modules: list[Module]) -> list[str]:
    """The longest path of modules that import one another."""
    known = {module.name for module in modules}
    imports = {module.name: imports_when_imported(module, known) for module in modules}

    @cache
    def chain_from(name: str) -> list[str]:
        return [name, *max((chain_from(one) for one in imports[name]), key=len, default=[])]

    return max((chain_from(name) for name in sorted(known)), key=len)


def num_parameters(function: Definition) -> int:
    arguments = function.args
    names = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return len([one for one in names if one.arg not in ("self", "cls")])


def body_of(node: ast.AST) -> list[ast.stmt]:
    """Return the statements in a block, and none of what has no block."""
    body = getattr(node, "body", [])
    return body if isinstance(body, list) else []


def vague_docstrings(module: Module) -> list[str]:
    """Docstrings of the module, its classes, functions and fields that begin neither way."""
    pattern = re.compile(rf"({'|'.join(VAGUE_OPENINGS)})\b")
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) for node in ast.walk(module.tree) if isinstance(node, owners)]
    # A field's or constant's is a string behind its assignment.
    texts += [
        node.value.value
        for parent in ast.walk(module.tree)
        for before, node in pairwise(body_of(parent))
        if isinstance(before, ast.Assign | ast.AnnAssign)
        and isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    return [text for text in texts if text and pattern.match(text)]


class House:
    """All modules below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules = [Module(path, root) for path in sorted(root.rglob("*.py"))]
        self.functions = [(module, one) for module in self.modules for one in module.functions()]
        self.chain = longest_chain(self.modules)

    def widest(self) -> list[tuple[int, str]]:
        """Number of parameters and name of each function, most parameters first."""
        named = [
            (num_parameters(one), f"{module.name}.{one.name}") for module, one in self.functions
        ]
        return sorted(named, reverse=True)

    def figures(self) -> dict[str, str]:
        """What the table shows, by the name of its row."""
        lengths = [len(module.text.splitlines()) for module in self.modules]
        function_lengths = [one.end_lineno - one.lineno + 1 for _, one in self.functions]
        code = sum(len(module.code_lines) for module in self.modules)
        comments = sum(len(module.comment_lines) for module in self.modules)
        long_lines = sum(
            len(module.text.splitlines()[number - 1]) > LINE_LIMIT
            for module in self.modules
            for number in module.code_lines
        )
        nodes = (node for module in self.modules for node in ast.walk(module.tree))
        rooms = {module.name.split(".")[1] for module in self.modules if "." in module.name}
        wide = sum(count > MANY_PARAMETERS for count, _ in self.widest())
        return {
            "modules and folders at the top": str(len(rooms - {"__main__"})),
            "longest chain of imports": str(len(self.chain)),
            "files": str(len(self.modules)),
            "median file, lines": f"{median(lengths):.0f}",
            f"files under {FEW_LINES} lines": str(sum(length < FEW_LINES for length in lengths)),
            "median function, lines": f"{median(function_lengths):.0f}",
            "comments, share of code lines": f"{100 * comments / code:.1f} %",
            f"code lines over {LINE_LIMIT} characters": f"{100 * long_lines / code:.1f} %",
            f"functions of more than {MANY_PARAMETERS} parameters": str(wide),
            "docstrings with a vague opening": str(
                sum(len(vague_docstrings(module)) for module in self.modules)
            ),
            "statements": f"{sum(isinstance(node, ast.stmt) for node in nodes):,}",
        }


def main() -> None:
    houses = [House(Path(folder)) for folder in sys.argv[1:] or ["vsr"]]
    columns = [house.figures() for house in houses]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    print_table("The house", ["figure", *(str(house.root) for house in houses)], rows)
    for house in houses:
        print(f"\nThe longest chain of {house.root}: " + " -> ".join(house.chain))
        print(
            "Most parameters: " + ", ".join(f"{name} {count}" for count, name in house.widest()[:6])
        )


if __name__ == "__main__":
    main()
