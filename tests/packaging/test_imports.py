"""What importing costs, and who may import whom."""

from __future__ import annotations

import ast
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "zenhance"
HEAVY = ("torch", "napari", "dask", "zarr", "tifffile")
WINDOW_LIBRARIES = {
    "napari",
    "qtpy",
    "magicgui",
    "superqt",
    "vispy",
    "PyQt5",
    "PyQt6",
    "PySide2",
    "PySide6",
}


def loaded(statement: str, names: tuple[str, ...]) -> set[str]:
    """Tell which of the named modules a fresh interpreter has loaded after a statement."""
    code = f"import sys; {statement}; print(*[n for n in {names!r} if n in sys.modules])"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_importing_zenhance_loads_nothing_heavy():
    assert loaded("import zenhance", HEAVY) == set()


def test_importing_zenhance_takes_less_than_a_tenth_of_a_second():
    code = (
        "from time import process_time as now; start = now(); import zenhance; print(now() - start)"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(4)
    ]
    assert min(map(float, runs)) < 0.1


WITHOUT_TORCH = sorted(
    {
        *(PACKAGE / "methods").glob("*/__init__.py"),
        *(PACKAGE / "contract").glob("*.py"),
        PACKAGE / "models" / "catalogue.py",
        *(PACKAGE / "tiling").glob("*.py"),
        *((PACKAGE / "physics").glob("psf*.py")),
        PACKAGE / "physics" / "noise.py",
    }
)


@pytest.mark.parametrize("path", WITHOUT_TORCH, ids=dotted)
def test_what_forms_are_built_from_loads_no_torch(path):
    assert path.is_file()
    assert loaded(f"import {dotted(path)}", ("torch",)) == set()


def test_the_command_line_starts_without_torch_and_napari():
    assert loaded("import zenhance.cli", ("torch", "napari")) == set()


def test_imports_point_down_only():
    command = Path(sysconfig.get_path("scripts"), "lint-imports")
    done = subprocess.run(
        [str(command), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " 0 broken" in done.stdout


def imported(path: Path) -> set[str]:
    """Return the top-level names that a file imports anywhere, functions included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def test_only_the_plugin_knows_napari_and_qt():
    guilty = {
        dotted(path): found
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] != "plugin"
        and (found := imported(path) & WINDOW_LIBRARIES)
    }
    assert guilty == {}


def test_every_room_of_the_package_stands_in_the_contract_of_layers():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    listed = {name.strip() for line in contracts[0]["layers"] for name in line.split("|")}
    rooms = {dotted(path) for path in PACKAGE.glob("*/__init__.py")} | {
        dotted(path) for path in PACKAGE.glob("[!_]*.py")
    }
    assert rooms - listed == set()
