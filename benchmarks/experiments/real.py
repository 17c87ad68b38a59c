"""Real stacks without a truth: signal-to-noise ratio, contrast and re-blur check by depth.

The signal-to-noise ratio says how clearly walls stand out from the noise between them. Smoothing
raises it too, and so does invented structure. It therefore needs the re-blur check, which sees
both: smoothed structure is missing when the result is blurred again, and invented structure was not
measured.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from benchmarks.contenders import (
    IDENTITY,
    Contender,
    deblurs,
    learning_contenders,
    own_folder,
    select,
)
from benchmarks.experiments.sample import CANDIDATES
from benchmarks.machine import Machine, describe_machine
from benchmarks.paths import real_stacks, table_models
from benchmarks.quality_notes import FAILED
from benchmarks.runner import DEVICE, METHODS, Experiment, Option, Tell, minutes
from benchmarks.tables import TextTable
from zenhance.assess.before_after import before_after, standard_cuts
from zenhance.assess.depth import DepthFigures, contrast_by_depth, depth_below_surface, find_surface
from zenhance.assess.photons import Camera
from zenhance.assess.reblur import psf_in_the_plane, reblur_check
from zenhance.assess.reblur_report import Grade, ReblurReport, flagged_grade
from zenhance.contract import registry
from zenhance.contract.spec import MethodSpec
from zenhance.errors import ReadError, RunCancelled, StackError, sentence
from zenhance.io import open_stack
from zenhance.io.names import stem
from zenhance.physics.psf import Psf, resolve_psf
from zenhance.pipeline import enhance
from zenhance.pipeline.request import NO_WEIGHTS
from zenhance.stack import Stack
from zenhance.types import FloatArray, FloatTriple

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "EXPERIMENT",
    "RealReport",
    "RealRow",
    "RealStacks",
    "measure_real",
    "measure_stacks",
    "real_contenders",
    "real_table",
]

MAX_VOXELS = 4_000_000
MIN_PLANES = 12
SMOOTH_UM = 0.15
CLASSICAL = ("rl", "rl_tv")


@dataclass(frozen=True, slots=True)
class RealRow:
    """One contender: layers from shallow to deep, and the re-blur check of all and the deepest.

    ``learnt`` is true for a method with weights.
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
    """One stack: its shape, the assumed PSF and camera, and its rows."""

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
    """For the picture: title and image (Z, Y, X) of the measurement, of Richardson-Lucy, and of
    each trained method that heeds a PSF."""

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        figures = asdict(replace(self, volumes={}))
        del figures["volumes"]
        return figures


def real_contenders(minutes: float | None = None) -> tuple[Contender, ...]:
    """Return the measurement, Gaussian smoothing, Richardson-Lucy, and each trained method.

    Parameters
    ----------
    minutes : float, optional
        How long those that can learn from the stack itself do so, in rows of their own; left out,
        they do not.

    Notes
    -----
    Learnt methods come with their default weights, then with each other model that ships and does
    not enlarge.
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
        if entry.name != spec.defaults.weights and int(entry.card.architecture.get("scale", 1)) == 1
    ]


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
    """Measure a z-stack without a truth.

    At most 4 million voxels around the middle are used.


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
    noise = (
        f"gain {scene.camera.gain:.3g} per photon, offset {scene.camera.offset:.3g}, "
        f"read noise {scene.camera.read_noise:.2g}, estimated"
    )
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
    """Return the contenders with a column in the picture.

    A method has one: its self-trained model where there is one, else as it ships.
    """
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
            f'"{path.name}" is no single z-stack of at least {MIN_PLANES} planes (its shape is '
            f"{whole.shape}); choose another"
        )
    stack = _middle(whole)
    voxel = stack.voxel_size.require()
    raw = stack.read()
    depth = depth_below_surface(find_surface(raw, voxel), raw.shape[0], voxel)
    first, second = np.percentile(depth[depth >= 0], [100 / 3, 200 / 3])
    psf = resolve_psf(None, stack.metadata, 3)
    return _Scene(stack, raw, depth, (0.0, float(first), float(second)), psf, estimate(raw), voxel)


def _middle(stack: Stack) -> Stack:
    """Crop to the middle (y, x); all planes stay."""
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
        )
    except RunCancelled:
        raise
    except Exception as error:  # noqa: BLE001 - a benchmark shows how a method failed instead of ending with it
        return RealRow(contender.name, contender.title, failure=sentence(error), learnt=learnt)
    scene.volumes[contender.name] = image
    judged = (scene.depth_um >= scene.edges_um[2]) & (z_map != 0)
    share = float(np.mean(np.abs(z_map[judged]) > report.threshold_z)) if judged.any() else 0.0
    grade = flagged_grade(share, int(share > 0.0), report.discrepancy)
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


@dataclass(frozen=True)
class RealStacks:
    """Reports of all stacks, and why other files were left out."""

    reports: tuple[RealReport, ...]
    left_out: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        return {
            "stacks": [report.record() for report in self.reports],
            "left_out": list(self.left_out),
        }


def measure_stacks(
    place: str | Path,
    *,
    learn_minutes: float | None = None,
    methods: Sequence[str] = (),
    device: str = "cpu",
    tell: Tell | None = None,
) -> RealStacks:
    """Measure every z-stack of a file, a folder, or several of them separated by commas.

    Parameters
    ----------
    place : str or Path
        Files and folders. A file that is not a z-stack is named and left out.
    learn_minutes : float, optional
        How long methods that can learn from the stack do so; left out, they do not.
    methods : sequence of str
        Only these rows or methods, beside the measurement; empty means all.
    device : str
        Where to compute.
    tell : callable, optional
        Called with a title and the fraction done.

    Raises
    ------
    StackError, ReadError
        No stack can be measured; the error of the first one.
    MethodError
        A name in ``methods`` is unknown.
    """
    contenders = real_contenders(learn_minutes)
    rows = select(contenders, methods) if methods else contenders
    reports: list[RealReport] = []
    refused: list[StackError | ReadError] = []
    for path in real_stacks(place):
        try:
            reports.append(measure_real(path, rows, device=device, on_progress=tell))
        except (StackError, ReadError) as error:
            refused.append(error)
    if not reports and refused:
        raise refused[0]
    return RealStacks(tuple(reports), tuple(str(error) for error in refused))


def real_table(stacks: RealStacks) -> TextTable:
    """Return a row for each stack and contender: SNR of each third, contrast and re-blur check."""
    reports = stacks.reports
    header = (
        "stack",
        "method",
        "SNR shallow",
        "SNR middle",
        "SNR deep",
        "contrast deep",
        "re-blur",
        "flagged %",
        "re-blur deep",
        "flagged deep %",
        "residual",
    )
    rows = tuple(
        (report.file, *_cells(row, len(header) - 1)) for report in reports for row in report.rows
    )
    foot = [line for report in reports for line in _foot(report)]
    foot += [f"Left out: {reason}." for reason in stacks.left_out]
    foot += [f"Measured on {reports[0].machine.describe()}."] if reports else []
    return TextTable(
        "Real stacks, without truth",
        header,
        rows,
        tuple(foot),
        (
            "stack",
            "SNR middle",
            "contrast deep",
            "re-blur",
            "flagged %",
            "flagged deep %",
            "residual",
        ),
    )


def _cells(row: RealRow, columns: int) -> tuple[str, ...]:
    if row.reblur is None or len(row.layers) != 3:
        return (row.title, FAILED, *["-"] * (columns - 2))
    return (
        row.title,
        *(f"{layer.snr:.1f}" for layer in row.layers),
        f"{row.layers[-1].contrast:.2f}",
        row.reblur.grade,
        f"{100 * row.reblur.flagged_share:.2g}",
        row.deep_grade,
        f"{100 * row.deep_share:.2g}",
        f"{row.reblur.discrepancy:.2f}",
    )


def _foot(report: RealReport) -> tuple[str, ...]:
    shape, whole = (" × ".join(str(n) for n in s) for s in (report.shape_px, report.whole_shape_px))
    part = (
        f"the middle {shape} of {whole} voxels"
        if report.shape_px != report.whole_shape_px
        else f"{shape} voxels"
    )
    voxel = " × ".join(f"{v:.3g}" for v in report.voxel_size_um)
    shallow, deep = report.thirds_um
    return (
        f"`{report.file}`: {part} of {voxel} µm (z, y, x). PSF: {report.psf}. Camera: "
        f"{report.noise}.",
        f"Thirds of the specimen by depth below its surface: to {shallow:.1f} µm, to {deep:.1f} "
        "µm, deeper.",
        "SNR: (bright - dark) over the fast variation where it is dark; residual: deviance of the "
        "re-blurred result over its expectation.",
        *_verdicts(report),
        *_warnings(report),
        *(f"{row.title}: {FAILED}, {row.failure}." for row in report.rows if row.failure),
    )


def _warnings(report: RealReport) -> list[str]:
    """Return the warnings of the methods; a warning of several appears once."""
    said: dict[str, list[str]] = {}
    for row in report.rows:
        for text in row.warnings:
            said.setdefault(text, []).append(row.title)
    return [f"{', '.join(titles)}: {text}." for text, titles in said.items()]


def _verdicts(report: RealReport) -> list[str]:
    """Say for each trained method what it did to the deepest third."""
    raw = next((row for row in report.rows if row.name == IDENTITY and row.layers), None)
    said = []
    for row in report.rows:
        if raw is None or not row.layers or not row.learnt:
            continue
        before, after = raw.layers[-1].snr, row.layers[-1].snr
        change = "raises" if after > before else "does not raise"
        passed = {"pass": "passes", "warn": "is doubted by", "fail": "fails"}[row.deep_grade]
        said.append(
            f"{row.title}: {change} the SNR of the deepest third ({before:.1f} → {after:.1f}) and "
            f"{passed} the re-blur check there "
            f"({100 * row.deep_share:.2g} % flagged)."
        )
    return said


def _measure(options: Namespace, tell: Tell) -> RealStacks:
    return measure_stacks(
        options.real,
        learn_minutes=options.minutes,
        methods=options.methods,
        device=options.device,
        tell=tell,
    )


def _pictures(stacks: RealStacks) -> dict[str, Image]:
    """Draw a shallow plane, a deep plane and an xz cut of each stack."""
    found = {}
    for report in stacks.reports:
        cuts = standard_cuts(report.shape_px, report.voxel_size_um[0])
        picture = before_after(report.volumes, report.voxel_size_um, cuts)
        found[f"real_{stem(Path(report.file))}.png"] = picture
    return found


EXPERIMENT = Experiment(
    measure=_measure,
    tables=lambda stacks: {"real": real_table(stacks)},
    pictures=_pictures,
    options=(
        Option(
            "real",
            "Real stacks or folders of them.",
            "PATH,PATH",
            required="the experiment real needs a stack; give one with --real FILE, or a folder",
        ),
        Option("minutes", "Duration of learning from each stack.", "MINUTES", None, minutes),
        METHODS,
        DEVICE,
    ),
)
