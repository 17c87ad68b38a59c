"""The manifest: valid, light, and true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from npe2 import PluginManifest

MANIFEST = Path(__file__).parents[2] / "napari.yaml"


@pytest.fixture(scope="module")
def manifest():
    return PluginManifest.from_file(MANIFEST)


def test_npe2_validates_the_manifest():
    done = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", str(MANIFEST)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_can_be_imported(manifest):
    manifest.validate_imports()


def test_names_follow_the_distribution(manifest):
    assert manifest.name == "zenhance"
    assert all(command.id.startswith("zenhance.") for command in manifest.contributions.commands)
    assert [str(category) for category in manifest.categories] == [
        "Image Processing"
    ] or "Image Processing" in str(manifest.categories)


def test_the_samples_are_those_that_ship(manifest):
    from zenhance.io import sample_names

    assert {sample.key for sample in manifest.contributions.sample_data} == set(sample_names())


def test_both_docks_are_in_the_filter_menu(manifest):
    assert [item.command for item in manifest.contributions.menus["napari/layers/filter"]] == [
        "zenhance.enhance",
        "zenhance.train",
    ]
    assert {widget.display_name for widget in manifest.contributions.widgets} == {
        "Enhance",
        "Train",
    }


def test_filename_patterns_and_the_reader_agree(manifest):
    from zenhance.plugin.readers import get_reader

    (reader,) = manifest.contributions.readers
    for pattern in reader.filename_patterns:
        assert get_reader(pattern.replace("*", "stack")) is not None


def test_reader_and_writer_commands_import_nothing_heavy():
    code = (
        "import sys, zenhance.plugin.readers, zenhance.plugin.writers, zenhance.plugin.readers;"
        "heavy = ('torch', 'napari', 'dask', 'zarr', 'tifffile', 'magicgui')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
