"""Real stacks, of which nobody knows the truth: signal to noise, contrast and the re-blur check, by depth below the surface.

The signal-to-noise ratio says how clearly walls stand out from the noise between them. Smoothing raises it too, and so does structure
that was made up; so it is worth something only together with the re-blur check, which sees both: what was smoothed
away is missing when the result is blurred again, and what was made up was not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.alone import learning_contenders, own_folder
from benchmarks.contenders import IDENTITY, Contender, deblurs
from benchmarks.machine import Machine, describe_machine
from benchmarks.paths import places_in, table_models
from benchmarks.sample import CANDIDATES
from zenhance.assess.depth import DepthFigures, contrast_by_depth, depth_below_surface, find_surface
from zenhance.assess.photons import Camera
from zenhance.assess.reblur import (
    FAIL_SHARE,
    WARN_SHARE,
    Grade,
    ReblurReport,
    psf_in_the_plane,
    reblur_check,
    width_range_of,
)
from zenhance.contract import registry
from zenhance.contract.spec import MethodSpec
from zenhance.errors import ReadError, RunCancelled, StackError, sentence
from zenhance.io import open_stack
from zenhance.io.names import images_in, is_image_folder
from zenhance.physics.psf import Psf, resolve_psf
from zenhance.pipeline import enhance
from zenhance.pipeline.request import NO_WEIGHTS
from zenhance.stack import Stack
from zenhance.types import FloatArray, FloatTriple

__all__ = ["RealReport", "RealRow", "measure_real", "real_contenders", "real_stacks"]

MAX_VOXELS = 4_000_000
MIN_PLANES = 12
SMOOTH_UM = 0.15
CLASSICAL = ("rl", "rl_tv")
Tell = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class RealRow:
    """One contender: the layers from the shallow to the deepest third, the re-blur check of all and of the deepest third.

    ``learnt`` says that it is a method with weights.
    """

    name: str
    title: str
    layers: tuple[DepthFigures, ...] = ()
    reblur: ReblurReport | None = None
    deep_share: float = 0.0
    deep_grade: Grade = "fail"
    warnings: tuple[str, ...] = ()
    failure: str = ""
    learnt: bool = False


@dataclass(frozen=True)
class RealReport:
    """One stack: what it is, which point spread function and camera were supposed, and its rows."""

    file: str
    shape_px: tuple[int, int, int]
    whole_shape_px: tuple[int, int, int]
    voxel_size_um: FloatTriple
    thirds_um: tuple[float, float]
    psf: str
    noise: str
    rows: tuple[RealRow, ...]
    machine: Machine
    volumes: Mapping[str, FloatArray] = field(default_factory=dict, repr=False)
    """For the picture: title and image (Z, Y, X) of the measurement, of Richardson-Lucy, and of each learnt method that heeds a PSF."""

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        figures = asdict(replace(self, volumes={}))
        del figures["volumes"]
        return figures


def real_contenders(minutes: float | None = None) -> tuple[Contender, ...]:
    """Return the measurement, Gaussian smoothing, Richardson-Lucy, and each method that learns.

    Parameters
    ----------
    minutes : float, optional
        How long those that can learn from the stack itself do so, in rows of their own; left out, they do not.

    Notes
    -----
    Those that learn come with the weights they would take by themselves, then with each other model that ships and does not enlarge.
    """
    rows = [
        Contender(IDENTITY, "measured", IDENTITY, deblurs=False),
        Contender("gaussian_smoothing", "Gaussian smoothing", deblurs=False),
    ]
    rows += [
        Contender(c.name, c.title, c.method, c.settings) for c in CANDIDATES if c.name in CLASSICAL
    ]
    for name in registry.names():
        spec = registry.load(name).spec
        if spec.learns != "no":
            rows.append(
                Contender(
                    name, f"{spec.title}, default weights", name, deblurs=spec.defaults.deblurs
                )
            )
            rows += _other_models(spec)
        if spec.learns == "own_stack" and minutes is not None:
            rows += learning_contenders(spec, minutes)
    return tuple(rows)


def _other_models(spec: MethodSpec) -> list[Contender]:
    return [
        Contender(
            entry.name,
            f"{spec.title}, {entry.name}",
            spec.name,
            weights=str(entry.path),
            deblurs=deblurs(spec, entry),
        )
        for entry in table_models(spec.name)
        if entry.name != spec.defaults.weights
        and int(entry.card.architecture.get("scale", 1)) == 1
    ]


def real_stacks(place: str | Path) -> Iterator[Path]:
    """Yield a file, or the image files of a folder by name, or those of several, separated by commas.

    Raises
    ------
    ReadError
        There is no such file or folder, or no image in it.
    """
    for path in places_in(place):
        if not path.exists():
            raise ReadError(path, "there is no such file or folder; give the stacks to measure")
        yield from images_in(path) if path.is_dir() and not is_image_folder(path) else [path]


@dataclass(frozen=True)
class _Scene:
    stack: Stack
    raw: FloatArray
    depth_um: FloatArray
    edges_um: tuple[float, float, float]
    psf: Psf
    camera: Camera
    voxel_um: FloatTriple
    volumes: dict[str, FloatArray] = field(default_factory=dict)


def measure_real(
    path: Path,
    contenders: Sequence[Contender] | None = None,
    *,
    device: str = "cpu",
    on_progress: Tell | None = None,
) -> RealReport:
    """Measure what can be measured without a truth on one z-stack, of which at most 4 million voxels around the middle are taken.

    Parameters
    ----------
    path : Path
        One volume with a known voxel size.
    contenders : sequence of Contender, optional
        Left out, :func:`real_contenders`.
    device : str
        Where to compute.
    on_progress : callable, optional
        Called with a title and the fraction done.

    Raises
    ------
    StackError
        The stack has several volumes, fewer than 12 planes, no known voxel size, or no specimen.
    ReadError
        The file cannot be read.
    """
    rows_wanted = real_contenders() if contenders is None else tuple(contenders)
    machine, whole = describe_machine(), open_stack(path)
    scene = _scene(path, whole)
    checked: list[RealRow] = []
    for number, contender in enumerate(rows_wanted):
        if on_progress is not None:
            on_progress(f"{path.name}, {contender.title}", number / len(rows_wanted))
        checked.append(_run(contender, scene, device))
    layers = contrast_by_depth(
        scene.raw, dict(scene.volumes), scene.voxel_um, scene.depth_um, scene.edges_um
    )
    rows = tuple(_with_layers(row, layers.get(row.name, ())) for row in checked)
    noise = f"gain {scene.camera.gain:.3g} per photon, offset {scene.camera.offset:.3g}, read noise {scene.camera.read_noise:.2g}, estimated"
    thirds = (scene.edges_um[1], scene.edges_um[2])
    shape, psf = scene.stack.volume_shape, scene.psf.describe()
    volumes = {
        c.title: scene.volumes[c.name] for c in _shown(rows_wanted) if c.name in scene.volumes
    }
    return RealReport(
        path.name,
        shape,
        whole.volume_shape,
        scene.voxel_um,
        thirds,
        psf,
        noise,
        rows,
        machine,
        volumes,
    )


def _shown(contenders: Sequence[Contender]) -> tuple[Contender, ...]:
    """Return who has a column in the picture: one for a method, what it learnt from the stack alone where it did so, else as it ships."""
    columns = {}
    for contender in contenders:
        if contender.name in (IDENTITY, "rl"):
            columns[contender.name] = contender
            continue
        spec = None if contender.method is None else registry.load(contender.method).spec
        if spec is None or spec.learns == "no" or not spec.defaults.needs_psf or contender.settings:
            continue
        if contender.weights == NO_WEIGHTS or (
            contender.weights is None and contender.learn_minutes is None
        ):
            columns[spec.name] = contender
    return tuple(columns.values())


def _with_layers(row: RealRow, layers: tuple[DepthFigures, ...]) -> RealRow:
    return replace(row, layers=layers)


def _scene(path: Path, whole: Stack) -> _Scene:
    from zenhance.physics.noise import estimate

    if sum(1 for _ in whole.volumes()) != 1 or whole.size("Z") < MIN_PLANES:
        raise StackError(
            f'"{path.name}" is no single z-stack of at least {MIN_PLANES} planes (its shape is {whole.shape}); choose another'
        )
    stack = _middle(whole)
    voxel = stack.voxel_size.require()
    raw = stack.read()
    depth = depth_below_surface(find_surface(raw, voxel), raw.shape[0], voxel)
    first, second = np.percentile(depth[depth >= 0], [100 / 3, 200 / 3])
    psf = resolve_psf(None, stack.metadata, 3)
    return _Scene(stack, raw, depth, (0.0, float(first), float(second)), psf, estimate(raw), voxel)


def _middle(stack: Stack) -> Stack:
    """Cut as much out of the middle (y, x) as there is time for; all planes stay."""
    planes, height, width = stack.volume_shape
    share = min(1.0, (MAX_VOXELS / (planes * height * width)) ** 0.5)
    rows, columns = int(height * share), int(width * share)
    top, left = (height - rows) // 2, (width - columns) // 2
    return stack.crop({"Y": slice(top, top + rows), "X": slice(left, left + columns)})


def _run(contender: Contender, scene: _Scene, device: str) -> RealRow:
    learnt = contender.method is not None and registry.load(contender.method).spec.learns != "no"
    try:
        image, warnings = _image(contender, scene, device)
        report, z_map = reblur_check(
            scene.raw,
            image,
            psf_in_the_plane(scene.psf) if _is_plane_by_plane(contender) else scene.psf,
            scene.voxel_um,
            scene.camera,
            deblurred=contender.deblurs,
            width_range=width_range_of(scene.psf),
        )
    except RunCancelled:
        raise
    except Exception as error:  # noqa: BLE001 - a benchmark shows how a method failed instead of ending with it
        return RealRow(contender.name, contender.title, failure=sentence(error), learnt=learnt)
    scene.volumes[contender.name] = image
    judged = (scene.depth_um >= scene.edges_um[2]) & (z_map != 0)
    share = float(np.mean(np.abs(z_map[judged]) > report.threshold_z)) if judged.any() else 0.0
    grade: Grade = "pass" if share <= WARN_SHARE else "warn" if share <= FAIL_SHARE else "fail"
    return RealRow(
        contender.name, contender.title, (), report, share, grade, warnings, learnt=learnt
    )


def _is_plane_by_plane(contender: Contender) -> bool:
    if contender.method is None:
        return False
    return contender.request("cpu").parameters().solved_dimensions == 2


def _image(contender: Contender, scene: _Scene, device: str) -> tuple[FloatArray, tuple[str, ...]]:
    if contender.method is None:
        smooth = ndimage.gaussian_filter(
            scene.raw.astype(np.float32), [SMOOTH_UM / v for v in scene.voxel_um]
        )
        return np.asarray(smooth, np.float32), (f"σ {SMOOTH_UM:g} µm",)
    with own_folder():
        result = enhance(scene.stack, contender.request(device))
    return result.stack.read().astype(np.float32), tuple(result.provenance.warnings)
