"""The pages on the command line say what the program says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from zenhance.cli.app import command
from zenhance.cli.paths import OUTPUT_SUFFIXES
from zenhance.errors import _EXIT_CODES

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md"])
COMMANDS: dict[str, Any] = dict(command().commands)


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_and_option_stands_in_the_page_with_its_line_of_help(name: str) -> None:
    _, _, rest = page("command_line.md").partition(f"### zenhance {name}")
    section = rest.partition("\n### ")[0].partition("<!-- end")[0]
    assert section, f"docs/command_line.md has no section on {name}"
    rows = set(re.findall(r"^\| `(.+?)` \| (.+) \|$", section, re.MULTILINE))
    expected = set()
    for parameter in COMMANDS[name].params:
        if "--help" in parameter.opts:
            continue
        is_argument = parameter.param_type_name == "argument"
        label = (
            parameter.metavar
            if is_argument
            else " ".join(filter(None, (parameter.opts[0], parameter.metavar)))
        )
        expected.add((label.replace("|", "\\|"), parameter.help))
    assert rows == expected


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_option_has_one_line_of_help_with_its_default(name: str) -> None:
    for parameter in COMMANDS[name].params:
        assert parameter.help, (name, parameter.name)
        assert "\n" not in parameter.help
        assert len(parameter.help) <= 120
        if parameter.param_type_name == "option" and "--help" not in parameter.opts:
            assert "default" in parameter.help.lower(), (name, parameter.name)


def test_every_exit_code_and_kind_is_explained() -> None:
    rows = dict(re.findall(r"^\| ([\d, ]+) \| (.+?) \|", page("troubleshooting.md"), re.MULTILINE))
    explained = {int(code): kinds for codes, kinds in rows.items() for code in codes.split(",")}
    for kind, code in _EXIT_CODES.items():
        assert str(kind) in explained[code]
    assert set(explained) == {0, 143, *_EXIT_CODES.values()}


def _anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_between_the_pages_lead_to_files_and_headings(path: Path) -> None:
    links = re.findall(
        r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", path.read_text(encoding="utf-8")
    )
    for file, anchor in links:
        target = (path.parent / file).resolve() if file else path
        assert target.is_file(), (path.name, file)
        if anchor:
            assert anchor in _anchors(target), (path.name, file, anchor)


def test_the_point_spread_functions_of_the_page_can_be_read() -> None:
    from zenhance.physics.psf import parse_psf

    specs = re.findall(
        r"^\| `((?:sigma|fwhm|confocal|widefield).+?)` \|", page("command_line.md"), re.MULTILINE
    )
    assert len(specs) == 4
    for spec in specs:
        parse_psf(spec.replace("Z,Y,X", "0.6,0.2,0.2"), 3)


def test_the_suffixes_of_the_page_are_those_that_can_be_written() -> None:
    from zenhance.io.write import _ENDINGS

    assert {ending for ending, _ in _ENDINGS} == set(OUTPUT_SUFFIXES)


def test_the_sentences_of_the_page_are_those_of_the_program() -> None:
    source = "\n".join(
        path.read_text(encoding="utf-8") for path in sorted((DOCS.parent / "src").rglob("*.py"))
    )
    source = re.sub(r"[\"']\s*\n\s*f?[\"']", "", source)
    text = page("troubleshooting.md")
    sections = [
        s
        for s in re.split(r"^## ", text, flags=re.MULTILINE)
        if "| the message says |" in s or "| the reason |" in s
    ]
    assert len(sections) == 6
    phrases = [
        p
        for s in sections
        for row in re.findall(r"^\| (.+?) \|", s, re.MULTILINE)
        for p in re.findall(r"`([^`]+)`", row)
    ]
    assert len(phrases) > 50
    for phrase in phrases:
        fragments = [part.strip() for part in re.split(r"…|\"|\d+|\bN\b", phrase)]
        for fragment in fragments:
            assert fragment in source, (
                f"docs/troubleshooting.md quotes {phrase!r}, but the program never says "
                f"{fragment!r}"
            )
