"""One runner for all experiments: it lists them, reads their options and keeps what they find."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import runner
from benchmarks.runner import Experiment, Option, Section
from benchmarks.tables import TextTable
from zenhance.errors import MethodError, RecipeError

ROOT = Path(__file__).resolve().parents[2]
TABLE = TextTable("Some table", ("row", "dB"), (("first", "1.00"),), ("One row.",))


@dataclass(frozen=True)
class Report:
    options: Namespace

    def record(self) -> dict[str, Any]:
        return {"steps": self.options.steps, "rows": [1.0]}


@pytest.fixture
def experiment(monkeypatch: pytest.MonkeyPatch) -> list[Namespace]:
    """An experiment of the name speed that measures nothing; the list holds its options."""
    seen: list[Namespace] = []

    def measure(options: Namespace, tell: runner.Tell) -> Report:
        tell("half", 0.5)
        seen.append(options)
        return Report(options)

    made = Experiment(
        measure=measure,
        tables=lambda _report: {"speed": TABLE},
        options=(Option("steps", "Steps.", "N", 7, runner.whole), runner.QUICK),
        pictures=lambda _report: {
            "grey.png": Image.new("L", (4, 4)), "text.svg": "<svg/>", "raw.png": b"PNG",
        },
        files=lambda _report, folder: [_written(folder / "more.txt")],
    )  # fmt: skip
    monkeypatch.setattr(runner, "load", lambda _name: made)
    return seen


def _written(path: Path) -> Path:
    path.write_text("more", encoding="utf-8")
    return path


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    page = tmp_path / "docs" / "benchmark.md"
    page.parent.mkdir()
    page.write_text("<!-- begin speed -->\nworn\n<!-- end speed -->\n", encoding="utf-8")
    monkeypatch.setattr(runner, "DOCS", page.parent)
    return page


def test_every_experiment_declares_itself_and_its_options_explain_themselves(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert set(runner.names()) >= {"sample", "quality", "resolution", "rooms", "house"}
    for name in runner.names():
        experiment = runner.load(name)
        assert isinstance(experiment, Experiment)
        assert 20 < len(runner.summary(name)) < 110
        assert runner.summary(name).endswith(".")
        declared = [option.name for option in experiment.options]
        assert len(set(declared)) == len(declared)
        with pytest.raises(SystemExit):
            runner.read_options(name, experiment, ["--help"])
        said = capsys.readouterr().out
        assert all(f"--{option}" in said for option in (*declared, "out", "write-docs", "json"))


def test_the_list_names_every_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["--help"]) == runner.main([]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in runner.names())


def test_options_have_their_default_or_what_was_typed(experiment: list[Namespace]) -> None:
    runner.run("speed")
    runner.run("speed", "--steps", "12", "--quick")
    assert [(o.steps, o.quick, o.out, o.json) for o in experiment] == [
        (7, False, None, False), (12, True, None, False),
    ]  # fmt: skip


def test_figures_tables_and_pictures_go_where_they_are_asked_for(
    experiment: list[Namespace], page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = runner.run("speed", "--out", tmp_path / "new" / "out", "--write-docs")
    out, images = tmp_path / "new" / "out", page.parent / "images"
    pictures = ("grey.png", "text.svg", "raw.png")
    assert set(files) == {
        out / "speed.json", out / "more.txt", page,
        *(folder / name for folder in (out, images) for name in pictures),
    }  # fmt: skip
    assert all(file.is_file() for file in files)
    assert "worn" not in page.read_text(encoding="utf-8")
    assert "| first | 1.00 |" in page.read_text(encoding="utf-8")
    assert (images / "raw.png").read_bytes() == b"PNG"
    shown = capsys.readouterr()
    assert "Some table" in shown.out
    assert f"wrote {out / 'speed.json'}" in shown.out
    assert "50%  half" in shown.err


def test_json_is_one_line_and_nothing_else(
    experiment: list[Namespace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner.run("speed", "--json", "--out", tmp_path)
    shown = capsys.readouterr()
    (line,) = shown.out.splitlines()
    assert json.loads(line)["rows"] == [1.0]
    assert shown.err == ""


def test_sections_replace_the_tables_on_the_page() -> None:
    plain = Experiment(lambda _options, _tell: None, lambda _report: {"a": TABLE}, "methods/x.md")
    (section,) = plain.documented(None)
    assert (section.page, section.mark) == ("methods/x.md", "a")
    own = Experiment(
        lambda _options, _tell: None,
        lambda _report: {"a": TABLE},
        sections=lambda _report: [Section("y.md", "b", "text")],
    )
    assert own.documented(None) == [Section("y.md", "b", "text")]


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", str(10**10)])
def test_a_number_that_cannot_be_used_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="give a whole number from 1 to 1,000,000,000"):
        runner.whole("--steps", text)


def test_an_unknown_experiment_is_one_sentence_with_the_nearest_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert runner.main(["qality"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith('there is no experiment "qality"; did you mean "quality"?')


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("real", "needs a stack; give one with --real FILE, or a folder"),
        ("pictures", "needs a stack; give one with --real FILE, or a folder"),
        ("beads", "needs a stack; give one with --real BEADS, or BEADS,LINES"),
        ("photographs", "give a folder of them with --folders DIR"),
        ("simulator", "give their folder with --real DIR"),
    ],
)
def test_what_cannot_be_left_out_is_asked_for(name: str, hint: str) -> None:
    with pytest.raises(MethodError, match=hint):
        runner.run(name)


def test_minutes_may_be_given_in_other_units() -> None:
    assert runner.minutes("--minutes", "90s") == 1.5
    with pytest.raises(RecipeError, match="--minutes"):
        runner.minutes("--minutes", "soon")


def test_an_unknown_row_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(MethodError, match='no row "wienr"; did you mean "wiener"'):
        runner.run("quality", "--methods", "wienr")
