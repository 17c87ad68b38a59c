"""Simulated stacks on disk: any specimen on demand, and the samples that ship with the package.

Every stack NAME comes as these files::

    NAME.ome.tif          the measurement
    NAME_truth.ome.tif    gain · emission + offset: grey values without blur, noise and stray light
    NAME_labels.ome.tif   cell numbers, 0 outside
    NAME.json             seed, settings, the true PSF, further facts (distances, drift), checksums
    NAME_blurred.ome.tif  on request: the measurement's expectation, float32

The truth is dimmed with depth like the measurement: deconvolution cannot restore light that never
left the tissue.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from zenhance.contract.settings import validate
from zenhance.errors import OutputExistsError, StackError
from zenhance.provenance import hash_array
from zenhance.simulate.microscope import Microscope, Specimen
from zenhance.simulate.presets import as_microscope
from zenhance.simulate.specimen import (
    Grid,
    Parameters,
    SpecimenModel,
    ThinSpecimen,
    load_specimen,
    renumbered,
)
from zenhance.stack import Stack
from zenhance.types import FloatArray, FloatTriple

__all__ = ["SAMPLES", "Sample", "default_field", "simulate", "simulate_to_folder", "write_samples"]

ENDINGS = (".ome.tif", "_truth.ome.tif", "_labels.ome.tif", ".json")
DEFAULT_SHAPE_PX = (40, 160, 160)
DEFAULT_VOXEL_UM = (0.5, 0.22, 0.22)
FINE_FIELDS = {
    "beads": Grid((32, 128, 128), (0.25, 0.1, 0.1)),
    "charts": Grid((1, 256, 256), (0.3, 0.05, 0.05)),
    "filaments": Grid((1, 256, 256), (0.1, 0.025, 0.025)),
    "structures": Grid((1, 256, 256), (0.1, 0.03, 0.03)),
}
"""Fields of specimens whose structures are finer than the default voxel."""
BLEACHED_PER_FRAME = 0.2
DRIFT_PX = (0, 1, 2)
"""How far the stage moves (z, y, x) from frame to frame of a time series."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A stack that ships: which specimen, seen how, with which seed."""

    specimen: str
    seed: int
    grid: Grid
    settings: dict[str, Any] = field(default_factory=dict)
    microscope: Microscope = field(default_factory=Microscope)
    frames: int = 1


SAMPLES: dict[str, Sample] = {
    "meristem_deep": Sample("meristem", 7, Grid(DEFAULT_SHAPE_PX, DEFAULT_VOXEL_UM)),
    "meristem_two_channel": Sample(
        "meristem",
        11,
        Grid((14, 72, 72), (1.0, 0.3, 0.3)),
        {"nuclei": True, "radius_um": 12.0},
        Microscope(photons=120.0),
        frames=3,
    ),
}


def default_field(specimen: str) -> Grid:
    """Return shape and voxel size that suit a specimen."""
    return FINE_FIELDS.get(specimen, Grid(DEFAULT_SHAPE_PX, DEFAULT_VOXEL_UM))


def _field(
    specimen: str, shape_px: tuple[int, int, int] | None, voxel_size_um: FloatTriple | None
) -> Grid:
    usual = default_field(specimen)
    return Grid(shape_px or usual.shape_px, voxel_size_um or usual.voxel_size_um)


def simulate(
    specimen: str = "meristem",
    *,
    seed: int = 0,
    shape_px: tuple[int, int, int] | None = None,
    voxel_size_um: FloatTriple | None = None,
    settings: dict[str, Any] | None = None,
    microscope: Microscope | None = None,
) -> Specimen:
    """Render a specimen and image it.

    Parameters
    ----------
    specimen : str
        Name in the catalogue.
    seed : int
        Of shape, staining and noise.
    shape_px : tuple of int, optional
        (Z, Y, X); left out, that of :func:`default_field`.
    voxel_size_um : tuple of float, optional
        (z, y, x); left out, that of :func:`default_field`.
    settings : dict, optional
        Settings of the specimen's model.
    microscope : Microscope, optional
        Left out, a dim water-dipping confocal.

    Returns
    -------
    Specimen
        Measurement, truth, labels, depth and PSF.

    Raises
    ------
    StackError
        The specimen is unknown, or shape or voxel size cannot be used.
    """
    sample = Sample(
        specimen,
        seed,
        _field(specimen, shape_px, voxel_size_um),
        settings or {},
        microscope or Microscope(),
    )
    (frame,) = _frames(sample, specimen)
    return replace(frame, labels=frame.labels.with_data(renumbered(np.asarray(frame.labels.data))))


def simulate_to_folder(
    specimen: str,
    folder: str | Path,
    *,
    seed: int = 0,
    count: int = 1,
    shape_px: tuple[int, int, int] | None = None,
    voxel_size_um: FloatTriple | None = None,
    settings: Mapping[str, Any] | None = None,
    microscope: Microscope | Mapping[str, Any] | str | None = None,
    name: str | None = None,
    blurred: bool = False,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Simulate stacks into a folder and return the files, stack by stack, the measurement first.

    Parameters
    ----------
    specimen : str
        Name in the catalogue.
    folder : str or Path
        Made if it is missing.
    seed : int
        Of the first stack; the next one's is one higher. The same seed writes the same bytes.
    count : int
        How many stacks.
    shape_px : tuple of int, optional
        (Z, Y, X); left out, that of :func:`default_field`.
    voxel_size_um : tuple of float, optional
        (z, y, x); left out, that of :func:`default_field`.
    settings : mapping, optional
        Settings of the specimen's model.
    microscope : Microscope, mapping or str, optional
        A microscope, its settings (with an optional ``preset`` to start from), or a preset's name;
        by default the default microscope.
    name : str, optional
        Of the files; by default the specimen's name and the seed. With several stacks the seed is
        added.
    blurred : bool
        Also write ``NAME_blurred.ome.tif``, the measurement's noise-free expectation, float32.
    overwrite : bool
        Whether existing files may be replaced.

    Raises
    ------
    StackError
        The specimen, a setting or a preset is unknown, or a value, the shape or the voxel size is
        invalid.
    OutputExistsError
        One of the files is there already and ``overwrite`` is false; nothing is written then.
    """
    if count < 1:
        raise StackError(f"the number of stacks is {count}, allowed is 1 or more")
    first = Sample(
        specimen,
        seed,
        _field(specimen, shape_px, voxel_size_um),
        _checked_settings(specimen, settings or {}),
        as_microscope(microscope),
    )
    titles = {
        n: name if name and count == 1 else f"{name or specimen}_{n}"
        for n in range(seed, seed + count)
    }
    endings = ENDINGS + (("_blurred.ome.tif",) if blurred else ())
    _refuse_existing(
        [Path(folder) / f"{title}{ending}" for title in titles.values() for ending in endings],
        overwrite,
    )
    files: list[Path] = []
    for number, title in titles.items():
        files.extend(
            _write(
                replace(first, seed=number),
                title,
                Path(folder),
                overwrite=overwrite,
                blurred=blurred,
            )
        )
    return tuple(files)


def _checked_settings(specimen: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a specimen's model accepted, in the words they were given."""
    model = cast("type[BaseModel]", load_specimen(specimen))
    validate(model, settings, f"setting of {specimen}", StackError)
    return dict(settings)


def write_samples(
    folder: str | Path, *, names: Sequence[str] | None = None, overwrite: bool = False
) -> tuple[Path, ...]:
    """Write the samples that ship into a folder and return their files.

    Raises
    ------
    StackError
        A name is not among :data:`SAMPLES`.
    """
    files: list[Path] = []
    for name in SAMPLES if names is None else names:
        if name not in SAMPLES:
            raise StackError(f'there is no sample "{name}"; choose one of {", ".join(SAMPLES)}')
        files.extend(_write(SAMPLES[name], name, Path(folder), overwrite=overwrite))
    return tuple(files)


def _frames(sample: Sample, name: str) -> list[Specimen]:
    """Image the same tissue frame by frame while the stage drifts and the dye bleaches."""
    model: SpecimenModel = load_specimen(sample.specimen)(**sample.settings)
    scope, grid = sample.microscope.settled(), sample.grid
    margin = scope.margin_px(grid.voxel_size_um)
    if grid.shape_px[0] == 1 and isinstance(model, ThinSpecimen):
        margin = (0, *margin[1:])
    z, y, x = (m + d * (sample.frames - 1) for m, d in zip(margin, DRIFT_PX, strict=True))
    dye = model.render(grid.grown((z, y, x)), sample.seed)
    frames = []
    for frame in range(sample.frames):
        starts = [d * frame for d in DRIFT_PX]
        zs, ys, xs = (
            slice(s, s + n + 2 * m) for s, n, m in zip(starts, grid.shape_px, margin, strict=True)
        )
        dimmed = scope.model_copy(
            update={"photons": scope.photons * (1 - BLEACHED_PER_FRAME) ** frame}
        )
        frames.append(dimmed.photograph(dye.window((zs, ys, xs)), grid, sample.seed + frame, name))
    return frames


def _refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    taken = [path for path in paths if path.exists()]
    if taken and not overwrite:
        raise OutputExistsError(
            f'"{taken[0]}" exists; choose another folder or name, or allow overwriting'
        )


def _write(
    sample: Sample, name: str, folder: Path, *, overwrite: bool, blurred: bool = False
) -> tuple[Path, ...]:
    from zenhance.io import write_stack

    paths = [folder / f"{name}{ending}" for ending in ENDINGS]
    if blurred:
        paths.insert(3, folder / f"{name}_blurred.ome.tif")
    _refuse_existing(paths, overwrite)
    frames = _frames(sample, name)
    scope = sample.microscope
    stacks = {
        name: _joined([f.measured for f in frames]),
        f"{name}_truth": _whole_numbers(_joined([f.truth for f in frames]), scope.dtype),
        f"{name}_labels": _relabelled(_joined([f.labels for f in frames])),
    }
    if blurred:
        stacks[f"{name}_blurred"] = _joined([f.blurred for f in frames])
    folder.mkdir(parents=True, exist_ok=True)
    for path, stack in zip(paths, stacks.values(), strict=False):
        write_stack(path, stack, overwrite=overwrite)
    paths[-1].write_text(
        json.dumps(_record(sample, frames[0], stacks), indent=2) + "\n", encoding="utf-8"
    )
    return tuple(paths)


def _joined(frames: list[Stack]) -> Stack:
    if len(frames) == 1:
        return frames[0]
    return replace(
        frames[0], data=np.stack([np.asarray(f.data) for f in frames]), axes="T" + frames[0].axes
    )


def _whole_numbers(stack: Stack, dtype: str) -> Stack:
    """Return grey values in the pixel type, or unchanged if a sharp specimen exceeds its range."""
    grey: FloatArray = np.asarray(stack.data, np.float32)
    if grey.max(initial=0.0) > np.iinfo(dtype).max:
        return stack
    return stack.with_data(np.rint(grey).astype(dtype))


def _relabelled(stack: Stack) -> Stack:
    return stack.with_data(renumbered(np.asarray(stack.data)))


def _record(sample: Sample, first: Specimen, stacks: dict[str, Stack]) -> dict[str, Any]:
    model = load_specimen(sample.specimen)(**sample.settings)
    return {
        "specimen": sample.specimen,
        "seed": sample.seed,
        "shape_px": list(sample.grid.shape_px),
        "voxel_size_um": list(sample.grid.voxel_size_um),
        "frames": sample.frames,
        "specimen_settings": model.model_dump(mode="json") if isinstance(model, Parameters) else {},
        "microscope_settings": sample.microscope.model_dump(mode="json"),
        "psf": sample.microscope.psf or _psf_spec(first.psf_mean.sigma_um),
        "psf_meaning": "mean of the emitted light's PSFs; the blur grows with depth "
        "from psf_shallow to psf_deep, Gaussian unless given",
        "psf_shallow": sample.microscope.psf or _psf_spec(first.psf_shallow.sigma_um),
        "psf_deep": sample.microscope.psf or _psf_spec(first.psf_deep.sigma_um),
        "units": "grey values: gain * photons + offset; truth without blur, noise and stray light, "
        "dimmed with depth like the measurement",
        **({"facts": dict(first.facts)} if first.facts else {}),
        "licence": "CC0-1.0",
        "sha256": {key: hash_array(_pixels(stack)) for key, stack in stacks.items()},
    }


def _pixels(stack: Stack) -> npt.NDArray[Any]:
    return np.asarray(stack.data)


def _psf_spec(sigma_um: FloatTriple) -> str:
    return "sigma_um=" + ",".join(f"{s:.4g}" for s in sigma_um)
