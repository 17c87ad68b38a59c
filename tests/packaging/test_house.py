"""The house stays in order.

No import cycle, short and simple functions, small weights, a true map.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from benchmarks.experiments.house import house_table, measure_house
from benchmarks.experiments.rooms import Rooms, draw_rooms, measure_rooms, reduced
from benchmarks.house import Checkout, body_lines, complexity, cycles, repeated

ROOT = Path(__file__).resolve().parents[2]
MAX_BODY_LINES = 45
MAX_COMPLEXITY = 15
MAX_WEIGHTS_MB = 20.0


@pytest.fixture(scope="module")
def checkout() -> Checkout:
    return Checkout(ROOT)


def test_modules_import_each_other_in_one_direction_only(checkout: Checkout) -> None:
    assert cycles(checkout.imports) == []


def test_no_function_is_too_long(checkout: Checkout) -> None:
    assert [f for f in checkout.functions if f.lines > MAX_BODY_LINES] == []


def test_no_function_is_too_complex(checkout: Checkout) -> None:
    assert [f for f in checkout.functions if f.complexity > MAX_COMPLEXITY] == []


def test_the_weights_in_the_wheel_are_small(checkout: Checkout) -> None:
    assert 0 < checkout.weights_mb <= MAX_WEIGHTS_MB


def test_one_module_outside_its_folder_names_a_method(checkout: Checkout) -> None:
    """The registry; only plugin, pipeline and cli may also name the one that they start with."""
    allowed = re.compile(r"zenhance\.(contract\.registry|plugin|cli|pipeline)\b")
    places = checkout.places_of_a_method()
    assert set(places) >= {"srcnn", "rdn", "dps"}
    strangers = {
        method: [p for p in found if not allowed.match(p)] for method, found in places.items()
    }
    assert {method: found for method, found in strangers.items() if found} == {}
    assert all("zenhance.contract.registry" in found for found in places.values())


def test_the_benchmarks_do_not_import_each_other_in_circles() -> None:
    found: dict[str, frozenset[str]] = {}
    for path in (ROOT / "benchmarks").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        imported = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("benchmarks"):
                imported |= {node.module or "", *(f"{node.module}.{a.name}" for a in node.names)}
        found[name] = frozenset(imported)
    assert cycles({name: others & found.keys() for name, others in found.items()}) == []


PATHS = re.compile(
    r"`((?:src|tests|docs|benchmarks|sample_data)/[\w./-]*|[\w.-]+\.(?:py|yaml|toml))`"
)


def test_every_path_that_the_architecture_names_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    own = {"network.py", "training.py", "inference.py", "__init__.py"}
    named = {path for path in PATHS.findall(text) if "NAME" not in path} - own
    assert len(named) > 8
    assert [path for path in named if not (ROOT / path).exists()] == []
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (ROOT / "docs" / target).is_file(), target
    for name in own - {"__init__.py"}:
        assert list((ROOT / "src" / "zenhance" / "methods").glob(f"*/{name}")), name


def test_the_map_shows_every_room(checkout: Checkout) -> None:
    rooms = {room for room in checkout.rooms() if not room.startswith("_")}
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("<!-- begin rooms -->")[2].partition("<!-- end rooms -->")[0]
    assert {room for room in rooms if f"| `{room}` |" not in table} == set()
    picture = (ROOT / "docs" / "images" / "rooms.svg").read_text(encoding="utf-8")
    assert {room for room in rooms if f">{room}</text>" not in picture} == set()


def _function(text: str) -> ast.FunctionDef:
    (node,) = ast.parse(text).body
    assert isinstance(node, ast.FunctionDef)
    return node


def test_a_body_is_counted_without_its_docstring() -> None:
    text = 'def f(\n    x,\n):\n    """Two\n    lines."""\n    y = x\n\n    return y\n'
    assert body_lines(_function(text)) == 3
    assert body_lines(_function('def f():\n    """Only words."""\n')) == 0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return 1", 1),
        ("if a:\n  pass\nelif b:\n  pass\nelse:\n  pass", 3),
        ("for a in b:\n  while c:\n    pass", 3),
        ("try:\n  pass\nexcept A:\n  pass\nexcept B:\n  pass\nelse:\n  pass", 4),
        ("match a:\n  case 1:\n    pass\n  case 2:\n    pass\n  case _:\n    pass", 3),
        ("def g():\n  if a:\n    pass", 3),
        ("with a:\n  if b and c or d:\n    pass", 2),
    ],
)
def test_complexity_is_counted_as_ruff_counts_it(body: str, expected: int) -> None:
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    assert complexity(_function(f"def f():\n{indented}\n")) == expected


def test_cycles_are_the_groups_that_reach_each_other() -> None:
    graph = {"a": "b", "b": "c", "c": "a", "d": "a", "e": "e", "f": ""}
    sets = {name: frozenset(targets) for name, targets in graph.items()}
    assert cycles(sets) == [("a", "b", "c"), ("e",)]
    assert cycles({"a": frozenset("bc"), "b": frozenset("d"), "c": frozenset("d")}) == []


def test_a_long_repetition_is_one_pair_whatever_its_indentation() -> None:
    lines = [f"x{n} = {n}" for n in range(9)]
    inner = "def f():\n" + "".join(f"    {line}\n" for line in lines)
    text = "\n".join(lines)
    assert repeated({"a": text, "b": inner}) == [("a:1", "b:2")]
    assert repeated({"a": text, "b": "\n".join(lines[:5])}) == []


def test_imports_count_inside_functions_and_for_type_checkers(tmp_path: Path) -> None:
    folder = tmp_path / "src" / "zenhance"
    (folder / "methods").mkdir(parents=True)
    (folder / "__init__.py").write_text("from zenhance.a import x\n")
    (folder / "a.py").write_text("def f():\n    from zenhance.b import y\n")
    (folder / "b.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from zenhance import a\n"
    )
    found = Checkout(tmp_path)
    assert cycles(found.imports) == [("zenhance.a", "zenhance.b")]
    assert found.rooms() == {"a": frozenset("b"), "b": frozenset("a")}


def test_arrows_that_follow_from_others_are_left_out() -> None:
    imports = {"a": frozenset("bc"), "b": frozenset("c"), "c": frozenset()}
    assert reduced(imports) == {"a": frozenset("b"), "b": frozenset("c"), "c": frozenset()}
    layers = (("a",), ("b",), ("c",), ("ground",))
    everyone = {room: others | {"ground"} for room, others in imports.items()}
    picture = draw_rooms(Rooms(layers, dict.fromkeys((*"abc", "ground"), ""), everyone))
    assert picture.count("marker-end") == 2
    assert all(f">{room}</text>" in picture for room in (*"abc", "ground"))


def test_the_table_of_the_house_has_the_measures_of_this_checkout(checkout: Checkout) -> None:
    figures = {row[0]: row[1] for row in house_table(measure_house(ROOT)).rows}
    assert figures["Python files in the wheel"] == f"{len(checkout.sources)}"
    assert figures["lines in the wheel"] == f"{checkout.lines:,}"
    assert measure_rooms(ROOT).layers[0] == ("plugin", "cli")


def test_bounds_are_called_max_and_min():
    old = re.compile(r"\b_?(?:LEAST|MOST)_[A-Z]\w*\b")
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "src").rglob("*.py"))
        for name in old.findall(path.read_text(encoding="utf-8"))
    ]
    assert found == []
