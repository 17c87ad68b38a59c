"""The one runner behind ``python -m benchmarks``.

Options, progress, tables, figures, documentation.

::

    experiments/NAME.py   EXPERIMENT = Experiment(measure, tables, page, options, …)

    measure(options, tell) ─► report
        report.record()     NAME.json in --out; one line with --json
        tables(report)      on the terminal; between the markers of a page with --write-docs
        pictures(report)    in --out; in docs/images with --write-docs

The name of an experiment is the name of its module, and its help is the first line of the module's
docstring: listing the experiments imports none of them.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import sys
import textwrap
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.console import Tell, progress, show, write_json
from benchmarks.docs import write_between_markers
from benchmarks.tables import TextTable
from zenhance.errors import MethodError, RecipeError, ZenhanceError, exit_code, sentence

__all__ = [
    "DEVICE",
    "METHODS",
    "QUICK",
    "Experiment",
    "Option",
    "Report",
    "Section",
    "main",
    "names",
    "run",
]

DOCS = Path("docs")
"""Relative to the top of a checkout."""
FOLDER = Path(__file__).parent / "experiments"
MAX_WHOLE = 10**9


@dataclass(frozen=True, slots=True)
class Option:
    """An option of one experiment.

    Parameters
    ----------
    name : str
        Without the dashes.
    help : str
        One line. The runner adds the default.
    metavar : str
        Placeholder of the value; empty for a switch.
    default : object
        Value where the option is absent.
    read : callable
        Turns the option's name and text into its value; raises MethodError or RecipeError.
    required : str
        Error message where the option is absent; empty where it may be absent.
    """

    name: str
    help: str
    metavar: str = ""
    default: Any = None
    read: Callable[[str, str], Any] = lambda _name, text: text
    required: str = ""

    @property
    def key(self) -> str:
        """Attribute that holds the value."""
        return self.name.replace("-", "_")

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Declare the option."""
        if not self.metavar:
            parser.add_argument(f"--{self.name}", action="store_true", help=self.help)
            return
        usual = ", ".join(self.default) if isinstance(self.default, tuple) else self.default
        said = f"{self.help} Default: {usual}." if usual not in (None, "") else self.help
        parser.add_argument(f"--{self.name}", metavar=self.metavar, help=said.replace("%", "%%"))

    def value(self, typed: Namespace) -> Any:
        """Return the value that was typed, or the default."""
        text = getattr(typed, self.key)
        if not self.metavar:
            return text
        if text is None and self.required:
            raise MethodError(self.required)
        return self.default if text is None else self.read(f"--{self.name}", text)


@dataclass(frozen=True, slots=True)
class Section:
    """Markdown for a page below ``docs/``, between the lines ``<!-- begin MARK -->`` and end."""

    page: str
    mark: str
    text: str


class Report(Protocol):
    """What an experiment found."""

    def record(self) -> dict[str, Any]:
        """Return figures that JSON can hold."""


@dataclass(frozen=True)
class Experiment:
    """What the runner needs to know of an experiment.

    Parameters
    ----------
    measure : callable
        Takes the options and a function for progress (title, fraction from 0 to 1). Returns a
        :class:`Report`.
    tables : callable
        Returns the tables of a report by their marker on the page.
    page : str
        Page below ``docs/`` that holds the tables.
    options : tuple of Option
        Besides ``--out``, ``--write-docs`` and ``--json``, which every experiment has.
    pictures : callable, optional
        Returns pictures by file name: Pillow images, SVG text or PNG bytes.
    sections : callable, optional
        Returns the sections for the pages where they are not simply the tables.
    files : callable, optional
        Takes the report and the folder of ``--out``, writes further files and returns their paths.
    """

    measure: Callable[[Namespace, Tell], Report]
    tables: Callable[[Any], Mapping[str, TextTable]]
    page: str = "benchmark.md"
    options: tuple[Option, ...] = ()
    pictures: Callable[[Any], Mapping[str, Any]] | None = None
    sections: Callable[[Any], Sequence[Section]] | None = None
    files: Callable[[Any, Path], Sequence[Path]] | None = None

    def documented(self, report: Any) -> Sequence[Section]:
        """Return what ``--write-docs`` writes."""
        if self.sections is not None:
            return self.sections(report)
        tables = self.tables(report)
        return [Section(self.page, mark, table.markdown()) for mark, table in tables.items()]


def words(_name: str, text: str) -> tuple[str, ...]:
    """Read words separated by commas."""
    return tuple(word for word in text.split(",") if word)


def whole(name: str, text: str) -> int:
    """Read a whole number from 1."""
    if not text.isdecimal() or not 1 <= int(text) <= MAX_WHOLE:
        raise RecipeError(f'{name} is "{text[:60]}"; give a whole number from 1 to {MAX_WHOLE:,}')
    return int(text)


def minutes(name: str, text: str) -> float:
    """Read a duration in minutes."""
    from zenhance.cli.parsing import parse_minutes

    return parse_minutes(name, text)


def path(_name: str, text: str) -> Path:
    """Read a path."""
    return Path(text).expanduser()


def device(_name: str, text: str) -> str:
    """Read a device; ``auto`` becomes the best one of this machine."""
    from zenhance.device.choice import choose_device

    return choose_device(text).name


QUICK = Option("quick", "Measure fewer or smaller stacks.")
DEVICE = Option("device", "Device: auto, cpu, cuda or mps.", "NAME", "cpu", device)
METHODS = Option(
    "methods", "Only these methods or rows, beside the measurement.", "NAME,NAME", (), words
)


def names() -> tuple[str, ...]:
    """Return the names of all experiments."""
    return tuple(sorted(file.stem for file in FOLDER.glob("[!_]*.py")))


def summary(name: str) -> str:
    """Return the first line of an experiment's docstring."""
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def load(name: str) -> Experiment:
    """Import an experiment.

    Raises
    ------
    MethodError
        There is no experiment of that name.
    """
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(known)}"
        raise MethodError(f'there is no experiment "{name[:60]}"; {hint}')
    experiment: Experiment = importlib.import_module(f"benchmarks.experiments.{name}").EXPERIMENT
    return experiment


def read_options(name: str, experiment: Experiment, typed: Sequence[str]) -> Namespace:
    """Return the values of the common options and of the experiment's own."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}", description=summary(name), allow_abbrev=False
    )
    page = f"docs/{experiment.page}"
    parser.add_argument("--out", metavar="DIR", type=Path, help="Folder for figures and pictures.")
    parser.add_argument("--write-docs", action="store_true", help=f"Put the results into {page}.")
    parser.add_argument("--json", action="store_true", help="Print one line of JSON, no table.")
    for option in experiment.options:
        option.add_to(parser)
    found = parser.parse_args(list(typed))
    for option in experiment.options:
        setattr(found, option.key, option.value(found))
    return found


def run(name: str, *typed: str | Path) -> tuple[Path, ...]:
    """Run an experiment as ``python -m benchmarks NAME …`` does, and return the files written.

    Raises
    ------
    ZenhanceError
        There is no such experiment, an option is wrong, or the experiment cannot be measured.
    """
    experiment = load(name)
    options = read_options(name, experiment, [str(word) for word in typed])
    with progress(silent=options.json) as tell:
        report = experiment.measure(options, tell)
    record, tables = report.record(), experiment.tables(report)
    pictures = experiment.pictures(report) if experiment.pictures and _keeps(options) else {}
    files: list[Path] = []
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        files.append(write_json(options.out / f"{name}.json", record))
        files += experiment.files(report, options.out) if experiment.files else []
        files += _saved(pictures, options.out)
    if options.write_docs:
        for part in experiment.documented(report):
            files.append(write_between_markers(DOCS / part.page, part.mark, part.text))
        files += _saved(pictures, DOCS / "images")
    files = list(dict.fromkeys(files))
    show(tuple(tables.values()), record, tuple(files), options.json)
    return tuple(files)


def _keeps(options: Namespace) -> bool:
    return options.out is not None or options.write_docs


def _saved(pictures: Mapping[str, Any], folder: Path) -> list[Path]:
    if pictures:
        folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        if isinstance(picture, bytes):
            (folder / name).write_bytes(picture)
        elif isinstance(picture, str):
            (folder / name).write_text(picture, encoding="utf-8")
        else:
            picture.save(folder / name, optimize=True)
    return [folder / name for name in pictures]


def listing() -> str:
    """Return the help of the program: all experiments with one line each."""
    known = names()
    wide = max(map(len, known)) + 4
    lines = [
        textwrap.fill(summary(name), 96, initial_indent=f"  {name}".ljust(wide),
                      subsequent_indent=" " * wide)
        for name in known
    ]  # fmt: skip
    head = "usage: python -m benchmarks NAME [options]\n\nMeasure one experiment of the docs.\n"
    return "\n".join([head, *lines, "\npython -m benchmarks NAME --help lists its options."])


def main(typed: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status; an error is one sentence on stderr."""
    given = list(sys.argv[1:] if typed is None else typed)
    if not given or given[0] in ("-h", "--help"):
        print(listing())
        return 0
    try:
        run(given[0], *given[1:])
    except ZenhanceError as error:
        sys.stderr.write(f"{sentence(error)}\n")
        return exit_code(error)
    return 0
