"""The manifest and the samples are found however the package is installed.

Nothing heavy is imported before it is needed.

All installs go to throw-away folders, from a copy of the checkout, without network.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

REPORT = """
import json, sys
from importlib.metadata import distribution
from importlib.resources import files
import zenhance
from npe2 import PluginManifest
from zenhance.io.samples import open_sample, sample_names
manifest = PluginManifest.from_distribution("zenhance")
samples = files("zenhance") / "sample_data"
names = sample_names()
print(json.dumps({
    "package": zenhance.__file__,
    "manifest": manifest.name,
    "files": sorted(p.name for p in samples.iterdir()),
    "samples": names,
    "shape": open_sample(names[0]).shape,
    "version": distribution("zenhance").version,
}))
"""


def quiet(*command: str | Path, folder: Path = ROOT, path: tuple[Path, ...] = ()) -> str:
    """Run a command, return what it printed; its errors are shown when it fails."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the checkout, without what git ignores."""
    copy = tmp_path_factory.mktemp("checkout") / "zenhance"
    ignored = shutil.ignore_patterns(
        ".git",
        ".venv",
        "__pycache__",
        ".*_cache",
        ".hypothesis",
        "dist",
        "build",
        "demo",
        "*.partial",
    )
    shutil.copytree(ROOT, copy, ignore=ignored, symlinks=True)
    for name in ("napari.yaml", "sample_data"):
        inner = copy / "src" / "zenhance" / name
        if inner.is_symlink() or inner.is_file():
            inner.unlink()
        elif inner.is_dir():
            shutil.rmtree(inner)
    return copy


@pytest.fixture(scope="module")
def built(checkout, tmp_path_factory) -> dict[str, Path]:
    """An sdist and two wheels: one from the checkout, one from the sdist."""
    out = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir")
    quiet(*build, out / "direct", "--wheel", checkout)
    quiet(*build, out / "by_sdist", checkout)
    (direct,) = (out / "direct").glob("*.whl")
    (by_sdist,) = (out / "by_sdist").glob("*.whl")
    (sdist,) = (out / "by_sdist").glob("*.tar.gz")
    return {"wheel": direct, "sdist_wheel": by_sdist, "sdist": sdist}


def install(source: Path, target: Path, *options: str) -> None:
    quiet(
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        target,
        *options,
        source,
    )


def check(report: str, inside: Path) -> None:
    found = json.loads(report)
    assert Path(found["package"]).is_relative_to(inside)
    assert found["manifest"] == "zenhance"
    assert found["version"] == "0.1.0"
    assert set(found["files"]) == {p.name for p in (ROOT / "sample_data").iterdir()}
    assert len(found["samples"]) >= 1
    assert len(found["shape"]) >= 3


@pytest.mark.parametrize("kind", ["wheel", "sdist_wheel"])
def test_a_wheel_holds_manifest_and_samples_and_finds_them(built, kind, tmp_path):
    install(built[kind], tmp_path / "site")
    check(
        quiet(sys.executable, "-c", REPORT, folder=tmp_path, path=(tmp_path / "site",)),
        tmp_path / "site",
    )


def test_both_wheels_hold_the_same_files_and_no_tests(built):
    names = [set(zipfile.ZipFile(built[kind]).namelist()) for kind in ("wheel", "sdist_wheel")]
    assert names[0] == names[1]
    assert {name.split("/")[0] for name in names[0]} == {"zenhance", "zenhance-0.1.0.dist-info"}
    assert {
        "zenhance/napari.yaml",
        "zenhance/py.typed",
        "zenhance-0.1.0.dist-info/licenses/LICENSE",
    } <= names[0]


def test_the_sdist_holds_what_is_needed_to_build_and_test(built):
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "hatch_build.py",
        "napari.yaml",
        "pyproject.toml",
        "constraints.txt",
        "Makefile",
        "tests/conftest.py",
        "LICENSE",
    } <= names
    assert not any(
        name.startswith(("src/zenhance/sample_data", "src/zenhance/napari.yaml", ".venv"))
        for name in names
    )


def test_an_editable_install_finds_manifest_and_samples(checkout, tmp_path):
    for _ in range(2):  # a second install must replace what the first one left
        install(checkout, tmp_path / "site", "--upgrade", "--editable")
    (hook,) = (tmp_path / "site").glob("*.pth")
    source = Path(hook.read_text().strip())
    assert source == checkout / "src"
    check(
        quiet(sys.executable, "-c", REPORT, folder=tmp_path, path=(tmp_path / "site", source)),
        source,
    )


@pytest.fixture
def place():
    """The function of the build hook that links or copies."""
    scope: dict[str, object] = {"__name__": "hatch_build"}
    exec(compile((ROOT / "hatch_build.py").read_text(), "hatch_build.py", "exec"), scope)
    return scope["place"]


@pytest.mark.parametrize("links", [True, False])
def test_files_are_copied_where_links_are_refused(place, links, tmp_path, monkeypatch):
    def refuse(self, target, target_is_directory=False):
        raise OSError("a required privilege is not held by the client")

    if not links:
        monkeypatch.setattr(Path, "symlink_to", refuse)
    package = tmp_path / "src" / "zenhance"
    package.mkdir(parents=True)
    (tmp_path / "folder").mkdir()
    for round_ in ("first", "second"):
        (tmp_path / "file").write_text(round_)
        (tmp_path / "folder" / "inner").write_text(round_)
        for name in ("file", "folder"):
            place(tmp_path / name, package / name)
            assert (package / name).is_symlink() is links
        assert (
            (package / "file").read_text() == (package / "folder" / "inner").read_text() == round_
        )
