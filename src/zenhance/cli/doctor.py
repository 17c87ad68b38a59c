"""``zenhance doctor``: what is installed, and what is missing for which purpose."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Literal

import typer

from zenhance.cli.options import Json
from zenhance.cli.output import print_json
from zenhance.errors import sentence
from zenhance.wording import format_bytes

__all__ = ["Check", "doctor", "examine", "is_healthy", "run_checks"]

State = Literal["ok", "note", "fail"]

_BASE = ("numpy", "scipy", "scikit-image", "torch", "tifffile", "zarr", "pydantic", "psf-generator")
_VENDOR = {
    "imagecodecs": "compressed TIFF, Zeiss CZI",
    "h5py": "HDF5",
    "liffile": "Leica LIF",
    "nd2": "Nikon ND2",
    "oiffile": "Olympus OIB and OIF",
}
_QT = ("PyQt6", "PySide6", "PyQt5")


def doctor(json_line: Json = False) -> None:
    """Report what is installed and what is missing."""
    checks = run_checks()
    if json_line:
        print_json(report(checks))
    else:
        for check in checks:
            print(f"{check.state:>4}  {check.name}: {check.detail}")
    raise typer.Exit(0 if is_healthy(checks) else 1)


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: ``ok``, ``note`` (an optional part is missing) or ``fail`` (no run works)."""

    name: str
    state: State
    detail: str

    def record(self) -> dict[str, str]:
        """Return the finding for ``--json``."""
        return asdict(self)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _check_program() -> Check:
    from zenhance._version import __version__

    return Check(
        "zenhance",
        "ok",
        f"{__version__}, Python {platform.python_version()} on {platform.platform()}",
    )


def _check_libraries() -> Check:
    found = {name: _installed(name) for name in _BASE}
    missing = [name for name, number in found.items() if number is None]
    if missing:
        return Check(
            "libraries",
            "fail",
            f"missing: {', '.join(missing)}; "
            f"install with: python -m pip install {' '.join(missing)}",
        )
    return Check("libraries", "ok", ", ".join(f"{name} {number}" for name, number in found.items()))


def _check_device() -> Check:
    from zenhance.device.choice import choose_device

    chosen = choose_device("auto")
    return Check("device", "ok", f"{chosen.name} ({chosen.title}): {chosen.reason}")


def _check_memory() -> Check:
    from zenhance.tiling.budget import free_bytes

    free = free_bytes("cpu")
    state: State = "ok" if free >= 1e9 else "note"
    advice = "" if state == "ok" else "; close other programs for larger tiles"
    return Check("memory", state, f"{format_bytes(free)} free for tiles{advice}")


def _check_threads() -> Check:
    import torch

    limits = [
        f"{name}={os.environ[name]}"
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
        if name in os.environ
    ]
    note = f", limited by {', '.join(limits)}" if limits else ""
    return Check(
        "threads", "ok", f"{torch.get_num_threads()} for computing, {os.cpu_count()} cores{note}"
    )


def _check_napari() -> Check:
    napari = _installed("napari")
    bindings = [f"{name} {number}" for name in _QT if (number := _installed(name))]
    if napari and bindings:
        return Check("napari", "ok", f"napari {napari}, {', '.join(bindings)}")
    lacking = "napari" if not napari else "a Qt binding"
    return Check(
        "napari",
        "note",
        f"{lacking} is not installed; only the plugin needs it: "
        'python -m pip install "zenhance[all]"',
    )


def _check_vendor_readers() -> Check:
    found = [f"{name} ({what})" for name, what in _VENDOR.items() if _installed(name)]
    missing = [f"{name} ({what})" for name, what in _VENDOR.items() if not _installed(name)]
    if missing:
        return Check(
            "file formats",
            "note",
            f'missing {", ".join(missing)}; for these files: python -m pip install "zenhance[io]"',
        )
    return Check("file formats", "ok", f"TIFF, OME-Zarr, {', '.join(found)}")


def _check_methods() -> Check:
    from zenhance.contract import registry
    from zenhance.models.catalogue import list_weights

    specs = [registry.load(name).spec for name in registry.names()]
    found = [
        f"{spec.name} has {len(list_weights(spec.name))}" for spec in specs if spec.learns != "no"
    ]
    weights = (
        f"trained models: {', '.join(found)}" if found else "none of them needs trained weights"
    )
    return Check("methods", "ok", f"{', '.join(spec.name for spec in specs)}; {weights}")


def _check_samples() -> Check:
    from zenhance.io.samples import open_sample, sample_names

    found = [f"{name} ({open_sample(name).describe()})" for name in sample_names()]
    if not found:
        return Check("samples", "fail", "no sample is installed; install zenhance again")
    return Check("samples", "ok", ", ".join(found))


def _check_manifest() -> Check:
    spec = find_spec("zenhance")
    from importlib.resources import files

    there = spec is not None and files("zenhance").joinpath("napari.yaml").is_file()
    return (
        Check("plugin", "ok", "manifest found")
        if there
        else Check("plugin", "note", "napari will not list zenhance; install it again")
    )


_CHECKS: tuple[Callable[[], Check], ...] = (
    _check_program,
    _check_libraries,
    _check_device,
    _check_memory,
    _check_threads,
    _check_methods,
    _check_samples,
    _check_vendor_readers,
    _check_napari,
    _check_manifest,
)


def examine(check: Callable[[], Check]) -> Check:
    """Run one check; a check that breaks is itself a finding."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a broken check is a finding
        name = check.__name__.removeprefix("_check_").replace("_", " ")
        return Check(name, "fail", sentence(error))


def run_checks() -> list[Check]:
    """Return all findings, the program's own first."""
    return [examine(check) for check in _CHECKS]


def is_healthy(checks: list[Check]) -> bool:
    """Tell whether enhancing works; notes do not count."""
    return all(check.state != "fail" for check in checks)


def report(checks: list[Check]) -> dict[str, Any]:
    """Return the findings for ``--json``."""
    return {
        "healthy": is_healthy(checks),
        "python": sys.executable,
        "checks": [check.record() for check in checks],
    }
