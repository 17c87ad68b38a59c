"""Measures of a checkout: size, longest function, complexity, import cycles, repetition.

Everything is read from the source with :mod:`ast`; nothing of the checkout is imported.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

__all__ = ["Checkout", "Function", "body_lines", "complexity", "cycles", "repeated"]

MAX_COLUMNS = 100
REPEATED_LINES = 6
MEGABYTE = 1e6
Graph = Mapping[str, frozenset[str]]
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Function:
    """A function: where it is, how long its body is in lines, and its cyclomatic complexity."""

    place: str
    lines: int
    complexity: int


def body_lines(function: FunctionNode) -> int:
    """Return the number of lines of a body without its docstring."""
    body = function.body
    if ast.get_docstring(function, clean=False) is not None:
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def complexity(function: FunctionNode) -> int:
    """Return the cyclomatic complexity (McCabe 1976) as ruff's rule C901 counts it."""
    return 1 + _branches(function.body)


def _branches(body: Sequence[ast.stmt]) -> int:
    return sum(_branches_of(node) for node in body)


def _branches_of(node: ast.stmt) -> int:
    match node:
        case ast.If():
            return 1 + _branches(node.body) + _branches(node.orelse)
        case ast.For() | ast.AsyncFor() | ast.While():
            return 1 + _branches(node.body) + _branches(node.orelse)
        case ast.Try() | ast.TryStar():
            handlers = sum(1 + _branches(handler.body) for handler in node.handlers)
            rest = _branches(node.body) + _branches(node.orelse) + _branches(node.finalbody)
            return handlers + rest + bool(node.orelse)
        case ast.With() | ast.AsyncWith():
            return _branches(node.body)
        case ast.Match():
            last = node.cases[-1]
            plain = isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None
            cases = sum(1 + _branches(case.body) for case in node.cases)
            return cases - (plain and last.guard is None)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return 1 + _branches(node.body)
        case ast.ClassDef():
            return _branches(node.body)
        case _:
            return 0


def cycles(graph: Graph) -> list[tuple[str, ...]]:
    """Return the groups of modules that import each other, directly or by way of others.

    These are the strongly connected components of more than one module (Tarjan 1972), and the
    modules that import themselves.
    """
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[tuple[str, ...]] = []

    def visit(start: str) -> None:
        work: list[tuple[str, Iterator[str]]] = [(start, iter(sorted(graph.get(start, ()))))]
        number[start] = low[start] = len(number)
        stack.append(start)
        while work:
            name, targets = work[-1]
            if (target := next(targets, None)) is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == number[name]:
                    group = stack[stack.index(name) :]
                    del stack[stack.index(name) :]
                    if len(group) > 1 or name in graph.get(name, ()):
                        found.append(tuple(sorted(group)))
            elif target not in number:
                number[target] = low[target] = len(number)
                stack.append(target)
                work.append((target, iter(sorted(graph.get(target, ())))))
            elif target in stack:
                low[name] = min(low[name], number[target])

    for name in sorted(graph):
        if name not in number:
            visit(name)
    return sorted(found)


def repeated(sources: Mapping[str, str], length: int = REPEATED_LINES) -> list[tuple[str, str]]:
    """Return the pairs of places that share so many consecutive lines or more.

    Indentation, blank lines, comments and imports do not count. A longer match is one pair.

    Parameters
    ----------
    sources : mapping of str to str
        Source by file name.
    length : int
        Lines that have to be equal.
    """
    lines = {name: _plain_lines(text) for name, text in sources.items()}
    places: dict[tuple[str, ...], list[tuple[str, int]]] = {}
    for name, numbered in lines.items():
        for start in range(len(numbered) - length + 1):
            window = tuple(text for _, text in numbered[start : start + length])
            places.setdefault(window, []).append((name, start))

    def text(name: str, index: int) -> str | None:
        return lines[name][index][1] if index >= 0 else None

    found = []
    for same in places.values():
        for (a, i), (b, j) in itertools.combinations(same, 2):
            if text(a, i - 1) is None or text(a, i - 1) != text(b, j - 1):
                found.append((f"{a}:{lines[a][i][0]}", f"{b}:{lines[b][j][0]}"))
    return sorted(found)


def _plain_lines(text: str) -> list[tuple[int, str]]:
    """Return (line number, text) of the lines that count."""
    tree = ast.parse(text)
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            skipped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    numbered = ((n, line.strip()) for n, line in enumerate(text.splitlines(), 1))
    return [(n, line) for n, line in numbered if line and line[0] != "#" and n not in skipped]


@dataclass(frozen=True)
class Checkout:
    """The package's source in a checkout.

    Parameters
    ----------
    root : Path
        Top of the checkout.
    package : str
        Name of the package below ``src/``.
    """

    root: Path
    package: str = "zenhance"

    @property
    def folder(self) -> Path:
        """Folder of the package."""
        return self.root / "src" / self.package

    @cached_property
    def sources(self) -> dict[str, str]:
        """Source of each module by its dotted name."""
        found = {}
        for path in sorted(self.folder.rglob("*.py")):
            parts = path.relative_to(self.folder.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path.read_text(encoding="utf-8")
        return found

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """Syntax tree of each module."""
        return {name: ast.parse(text) for name, text in self.sources.items()}

    @property
    def lines(self) -> int:
        """Lines of all modules."""
        return sum(text.count("\n") for text in self.sources.values())

    @property
    def long_share(self) -> float:
        """Share of the lines with more than :data:`MAX_COLUMNS` characters."""
        lines = [line for text in self.sources.values() for line in text.splitlines()]
        return sum(len(line) > MAX_COLUMNS for line in lines) / max(len(lines), 1)

    @property
    def weights_mb(self) -> float:
        """Size of the model weights in megabytes."""
        return sum(p.stat().st_size for p in self.folder.rglob("*.safetensors")) / MEGABYTE

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        """All functions and methods."""
        return tuple(
            Function(f"{name}:{node.name}", body_lines(node), complexity(node))
            for name, tree in self.trees.items()
            for node in ast.walk(tree)
            if isinstance(node, FunctionNode)
        )

    @cached_property
    def imports(self) -> dict[str, frozenset[str]]:
        """Modules that each module imports: at its top, inside functions, under TYPE_CHECKING.

        The root package names what it loads lazily; its imports do not count, but imports of it do.
        """
        return {
            name: frozenset() if name == self.package else frozenset(self._imported(name, tree))
            for name, tree in self.trees.items()
        }

    def _imported(self, name: str, tree: ast.Module) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (a.name for a in node.names if a.name in self.sources)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                module = node.module or ""
                for alias in node.names:
                    whole = f"{module}.{alias.name}"
                    if whole in self.sources or module in self.sources:
                        yield whole if whole in self.sources else module

    def rooms(self) -> dict[str, frozenset[str]]:
        """Return which rooms each room imports; a room is a folder or file below the package."""
        found: dict[str, set[str]] = {}
        for name, targets in self.imports.items():
            if room := self._room(name):
                others = {self._room(target) for target in targets} - {room, ""}
                found.setdefault(room, set()).update(others)
        return {room: frozenset(others) for room, others in sorted(found.items())}

    def _room(self, name: str) -> str:
        return name.partition(".")[2].partition(".")[0]

    def places_of_a_method(self) -> dict[str, tuple[str, ...]]:
        """Return, by method folder, the modules elsewhere in the package that name the method."""
        methods = [
            p.name for p in sorted((self.folder / "methods").iterdir())
            if p.is_dir() and (p / "__init__.py").is_file() and not p.name.startswith("_")
        ]  # fmt: skip
        named = {name: _named(tree) for name, tree in self.trees.items()}
        found: dict[str, tuple[str, ...]] = {}
        for method in methods:
            own = f"{self.package}.methods.{method}"
            found[method] = tuple(
                name
                for name, words in named.items()
                if name != own
                and not name.startswith(f"{own}.")
                and any(w in (method, own) or w.startswith(f"{own}.") for w in words)
            )
        return found


def _named(tree: ast.Module) -> set[str]:
    """Return the strings of a module, up to a colon, and the modules that it imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value.partition(":")[0])
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found
