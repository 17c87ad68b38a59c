"""What the Makefile and CI install.

Pins that fit the ranges, targets that parse, system libraries that are named or installed.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "system_libraries.sh"


with_make = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("make") is None, reason="make is not on this machine"
)


def pins() -> dict[str, str]:
    lines = [line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(len(pin.specifier) == 1 and str(pin.specifier).startswith("==") for pin in found)
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in found}


def direct_requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [
        project["build-system"]["requires"],
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
    ]
    return [
        requirement
        for entry in lists
        for text in entry
        if (requirement := Requirement(text)).name != "zenhance"
    ]


def test_every_direct_dependency_is_pinned_within_its_range():
    pinned = pins()
    for requirement in direct_requirements():
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), (
            requirement
        )


def test_every_direct_dependency_has_a_floor_for_the_lowest_resolution():
    without = [
        r.name
        for r in direct_requirements()
        if not any(s.operator in (">=", "==") for s in r.specifier)
    ]
    assert set(without) <= {
        "types-PyYAML"
    }  # only in the extra dev, which is not resolved to its floors


def test_torch_is_pinned_without_a_build_tag():
    assert pins()["torch"] == "2.13.0"


@with_make
@pytest.mark.parametrize(
    "target",
    [
        "help",
        "demo",
        "test",
        "test-slow",
        "test-all",
        "napari",
        "samples",
        "lint",
        "docs",
        "constraints",
    ],
)
def test_every_make_target_can_be_planned(target, tmp_path):
    done = subprocess.run(
        ["make", "--dry-run", target, f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if target != "help":
        assert f"-m venv {tmp_path / 'venv'}" in done.stdout
        assert "-c constraints.txt -e" in done.stdout


@with_make
def test_the_index_of_torch_is_passed_on_only_when_it_is_set(tmp_path):
    command = ["make", "--dry-run", "demo", f"VENV={tmp_path / 'venv'}"]
    environment = {k: v for k, v in os.environ.items() if k != "TORCH_INDEX"}
    plain = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    indexed = subprocess.run(
        [*command, "TORCH_INDEX=https://example.org/cpu"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "index-url" not in plain
    assert "--extra-index-url https://example.org/cpu" in indexed


def test_workflow_and_hooks_are_valid_yaml_that_name_existing_things():
    workflow = (
        yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
        if (ROOT / ".github").is_dir()
        else None
    )
    if workflow is not None:
        assert set(workflow["jobs"]) == {"test", "make", "lint", "newest", "lowest", "build"}
        assert workflow["jobs"]["test"]["strategy"]["matrix"]["os"] == [
            "ubuntu-latest",
            "macos-latest",
            "windows-latest",
        ]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["id"] for hook in hooks] == ["ruff", "ruff-format", "mypy", "import-linter"]


linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="system libraries are looked for on Linux"
)


@pytest.fixture
def bare_machine(tmp_path):
    """A folder that serves as the whole PATH: the plain tools, no Xvfb.

    More commands can be added as scripts.
    """
    for tool in (
        "sh",
        "uname",
        "ldconfig",
        "grep",
        "ls",
        "mktemp",
        "rm",
        "tail",
        "basename",
        "readlink",
        "cat",
    ):
        found = shutil.which(tool, path=os.environ["PATH"] + ":/sbin:/usr/sbin")
        (tmp_path / tool).symlink_to(found)

    def add(name, text):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def call(*arguments):
        command = [str(tmp_path / "sh"), str(SCRIPT), *arguments]
        return subprocess.run(
            command,
            env={"PATH": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return tmp_path, add, call


@linux_only
def test_missing_libraries_are_installed_on_debian_as_root(bare_machine):
    folder, add, call = bare_machine
    add("id", "echo 0")
    add("apt-get", 'echo "$@" >> apt.log')
    done = call("qt")
    assert done.returncode == 0
    assert done.stdout.startswith("installing missing system libraries: xvfb xauth")
    update, install = (folder / "apt.log").read_text().splitlines()
    assert update == "update"
    assert install.startswith("install -y --no-install-recommends xvfb xauth")


@linux_only
@pytest.mark.parametrize("reason", ["not root", "not Debian"])
def test_missing_libraries_are_named_in_one_line_elsewhere(bare_machine, reason):
    folder, add, call = bare_machine
    add("id", "echo 1000" if reason == "not root" else "echo 0")
    if reason == "not root":
        add("apt-get", 'echo "$@" >> apt.log')
    done = call("qt")
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    assert line.startswith("missing system libraries: xvfb xauth")
    assert "on Debian or Ubuntu: sudo apt-get install --no-install-recommends xvfb xauth" in line
    assert not (folder / "apt.log").exists()


@linux_only
def test_a_failing_installation_is_said_in_one_line_and_does_not_stop_the_tests(bare_machine):
    _, add, call = bare_machine
    add("id", "echo 0")
    add("apt-get", "echo 'E: Could not resolve deb.debian.org'; exit 100")
    done = call("qt")
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first.startswith("installing missing")
    assert second.startswith(
        "could not install system libraries (E: Could not resolve deb.debian.org); still missing: "
        "xvfb xauth"
    )


@linux_only
def test_nothing_is_said_where_nothing_is_missing(bare_machine):
    _, add, call = bare_machine
    add("python3", "exit 0")
    done = call("python", "python3")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@linux_only
def test_a_python_without_venv_gets_the_package_of_its_version(bare_machine):
    folder, add, call = bare_machine
    add("python3.11", "exit 1")
    (folder / "python3").symlink_to(folder / "python3.11")
    add("id", "echo 1000")
    assert call("python", "python3").stdout.startswith(
        "missing system libraries: python3.11-venv; on Debian"
    )


@linux_only
def test_an_unknown_set_is_refused(bare_machine):
    assert bare_machine[2]("everything").returncode == 2


@with_make
def test_make_test_and_make_test_slow_share_the_suite_between_them(tmp_path):
    """Every test belongs to one of the two, and CI calls both."""
    commands = {}
    # What the make that runs this suite was told must not reach the one that is asked here.
    told = {"MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "PYTEST_ARGS", "WORKERS"}
    environment = {name: value for name, value in os.environ.items() if name not in told}
    for target in ("test", "test-slow", "test-all"):
        command = ["make", "--dry-run", target, f"VENV={tmp_path / 'venv'}"]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment
        )
        lines = done.stdout.splitlines()
        commands[target] = [
            line.partition(" --dist loadfile ")[2] for line in lines if " -m pytest " in line
        ]
    assert [line.strip() for line in commands["test"]] == ['-m "not slow"']
    assert [line.strip() for line in commands["test-slow"]] == ["-m slow"]
    assert commands["test-all"] == commands["test"] + commands["test-slow"]
    if (ROOT / ".ci").is_dir():
        steps = (ROOT / ".ci" / "run").read_text().splitlines()
        assert [s.removeprefix("exec ") for s in steps if "make " in s] == [
            "make test",
            "make test-slow",
        ]


def test_the_citation_names_the_version_and_the_licence_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version = (ROOT / "src" / "zenhance" / "_version.py").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f'"{citation["version"]}"' in version
    assert citation["license"] == project["license"]
    assert {"repository-code", "url"}.isdisjoint(citation) or "urls" in project


def test_issue_templates_ask_for_what_a_report_needs():
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    if not folder.is_dir():
        pytest.skip("an sdist has no .github folder")
    forms = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.glob("*.yml")]
    bug = next(form for form in forms if form.get("name") == "Bug report")
    asked = {part["id"] for part in bug["body"] if "id" in part}
    assert {"happened", "expected", "steps", "doctor"} <= asked
