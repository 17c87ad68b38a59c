"""Real files before and after each method, with the re-blur check.

The middle of a file is used, at most 40 planes of 460 × 460 pixels. A stack of at least 12 planes
and 10 µm is deep: three depths are shown, and the signal-to-noise ratio is measured in thirds of
the depth below the surface of the specimen. Other files show their brightest plane.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.contenders import own_folder
from benchmarks.credits import credit_of
from benchmarks.machine import Machine, describe_machine
from benchmarks.paths import real_stacks
from benchmarks.pictures_sheet import SheetRow, as_small_png, draw_sheet
from benchmarks.psf_rules import PsfRule, read_rules, told_psf
from benchmarks.quality_notes import FAILED
from benchmarks.runner import DEVICE, METHODS, QUICK, Experiment, Option, Section, Tell
from benchmarks.tables import TextTable
from zenhance.assess.before_after import Cut
from zenhance.assess.depth import contrast_by_depth, depth_below_surface, find_surface
from zenhance.assess.reblur import psf_in_the_plane, reblur_check
from zenhance.assess.reblur_report import ReblurReport
from zenhance.contract import registry
from zenhance.contract.spec import MethodSpec
from zenhance.errors import MethodError, ReadError, RunCancelled, StackError, sentence
from zenhance.io import open_stack
from zenhance.io.names import stem
from zenhance.physics.noise import PoissonGauss, estimate
from zenhance.physics.psf import Psf
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.pipeline.plan import psf_for
from zenhance.stack import Stack
from zenhance.types import FloatArray, FloatTriple

__all__ = [
    "EXPERIMENT",
    "PictureFile",
    "PictureRow",
    "PicturesReport",
    "draw_sheets",
    "measure_pictures",
    "pictures_table",
]

MAX_PX = (40, 460)
"""Planes, and pixels along y and x."""
QUICK_PX = (12, 230)
DEEP_PLANES, DEEP_UM = 12, 10.0
DEPTHS = (0.15, 0.5, 0.85)
"""Which planes of a deep stack are shown, as shares of the planes."""


@dataclass(frozen=True)
class PictureRow:
    """Result of a method on a file: re-blur check, SNR by thirds of the depth, shown planes."""

    report: ReblurReport | None = None
    snr: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    failure: str = ""
    planes: tuple[FloatArray, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class PictureFile:
    """One file: the part that was taken, its assumed microscope, and a row for each method."""

    path: Path
    shape_px: tuple[int, int, int]
    whole_shape_px: tuple[int, int, int]
    voxel_size_um: FloatTriple
    psf: str
    noise: str
    thirds_um: tuple[float, ...]
    snr: tuple[float, ...]
    """Of the measurement, by thirds of the depth; empty where the stack is not deep."""
    cuts: tuple[Cut, ...]
    planes: tuple[FloatArray, ...] = field(repr=False)
    rows: Mapping[str, PictureRow] = field(default_factory=dict)

    @property
    def is_stack(self) -> bool:
        """Whether there is more than one plane."""
        return self.whole_shape_px[0] > 1


@dataclass(frozen=True)
class PicturesReport:
    """All files, and why others were left out."""

    methods: tuple[str, ...]
    files: tuple[PictureFile, ...]
    left_out: tuple[str, ...]
    machine: Machine

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        files = []
        for file in self.files:
            rows = {name: asdict(replace(row, planes=())) for name, row in file.rows.items()}
            bare = asdict(replace(file, planes=(), rows={}))
            files.append({**bare, "path": file.path.name, "rows": rows})
        return {"pictures": files, "left_out": list(self.left_out), "machine": asdict(self.machine)}


@dataclass(frozen=True)
class _Scene:
    stack: Stack
    raw: npt.NDArray[Any]
    spec: str | None
    psf: Psf
    camera: PoissonGauss
    depth_um: FloatArray | None
    edges_um: tuple[float, ...]
    cuts: tuple[Cut, ...]
    voxel_um: FloatTriple

    def snr(self, image: FloatArray) -> tuple[float, ...]:
        """Signal to noise by thirds of the depth; none of a stack that is not deep."""
        if self.depth_um is None:
            return ()
        layers = contrast_by_depth(
            self.raw, {"image": image}, self.voxel_um, self.depth_um, self.edges_um
        )["image"]
        return tuple(layer.snr for layer in layers) if len(layers) == 3 else ()

    def shown(self, image: npt.NDArray[Any]) -> tuple[FloatArray, ...]:
        return tuple(cut.of(image) for cut in self.cuts)


def measure_pictures(
    place: str | Path,
    methods: Sequence[str],
    rules: tuple[PsfRule, ...] = (),
    *,
    quick: bool = False,
    device: str = "cpu",
    on_progress: Tell | None = None,
) -> PicturesReport:
    """Enhance real files by methods as they ship.

    Parameters
    ----------
    place : str or Path
        A file, a folder, or several separated by commas. What cannot be read, holds several volumes
        or does not say its voxel size is left out.
    methods : sequence of str
        Of the registry.
    rules : tuple of PsfRule
        Which point spread function which file is told.
    quick : bool
        At most 12 planes of 230 × 230 pixels.
    device : str
        Where to compute.
    on_progress : callable, optional
        Called with a title and the fraction done.

    Raises
    ------
    MethodError
        A method is not known.
    StackError, ReadError
        No file could be measured; the reason of the first is given.
    """
    specs = [registry.load(name).spec for name in methods]
    machine, paths = describe_machine(), list(real_stacks(place))
    files: list[PictureFile] = []
    refused: list[StackError | ReadError] = []
    for number, path in enumerate(paths):

        def tell(title: str, part: float, path: Path = path, number: int = number) -> None:
            if on_progress is not None:
                on_progress(f"{path.name}, {title}", (number + part) / len(paths))

        try:
            files.append(_measure(path, specs, rules, QUICK_PX if quick else MAX_PX, device, tell))
        except (StackError, ReadError) as error:
            refused.append(error)
    if not files and refused:
        raise refused[0]
    return PicturesReport(
        tuple(methods), tuple(files), tuple(str(error) for error in refused), machine
    )


def _measure(
    path: Path,
    specs: Sequence[MethodSpec],
    rules: tuple[PsfRule, ...],
    most_px: tuple[int, int],
    device: str,
    tell: Tell,
) -> PictureFile:
    whole = open_stack(path)
    if not whole.voxel_size.is_known(whole.spatial_axes):
        raise StackError(f'"{path.name}" does not say its voxel size; choose a file that does')
    if sum(1 for _ in whole.volumes()) != 1:
        raise StackError(
            f'"{path.name}" holds several volumes (its axes are {whole.axes}); choose a file of one'
        )
    told, beads = told_psf(path, rules)
    scene = _scene(whole, told, most_px)
    rows = {}
    for number, spec in enumerate(specs):
        tell(spec.title, number / len(specs))
        rows[spec.name] = _run(spec, scene, device)
    camera = scene.camera
    return PictureFile(
        path=path,
        shape_px=scene.stack.volume_shape,
        whole_shape_px=whole.volume_shape,
        voxel_size_um=scene.voxel_um,
        psf=scene.psf.describe() + (f", {beads}" if beads else ""),
        noise=f"gain {camera.gain:.3g} per photon, offset {camera.offset:.3g}, read noise "
        f"{camera.read_noise:.2g}, estimated",
        thirds_um=scene.edges_um[1:],
        snr=scene.snr(scene.raw.astype(np.float32)),
        cuts=scene.cuts,
        planes=scene.shown(scene.raw),
        rows=rows,
    )


def _scene(whole: Stack, told: str | None, most_px: tuple[int, int]) -> _Scene:
    """Crop to the middle; the depth is measured before planes are removed."""
    shape, most = whole.volume_shape, (most_px[0], most_px[1], most_px[1])
    parts = {
        a: slice((n - min(n, m)) // 2, (n - min(n, m)) // 2 + min(n, m))
        for a, n, m in zip("ZYX", shape, most, strict=True)
    }
    column = whole.crop({a: parts[a] for a in "YX"})
    stack = column.crop({"Z": parts["Z"]}) if "Z" in column.axes else column
    voxel = stack.voxel_size.require(stack.spatial_axes)
    raw, depth = stack.read(), None
    edges: tuple[float, ...] = (0.0,)
    if shape[0] >= DEEP_PLANES and shape[0] * voxel[0] >= DEEP_UM:
        below = depth_below_surface(find_surface(column.read(), voxel), shape[0], voxel)[parts["Z"]]
        if (below >= 0).any():
            depth, edges = (
                below,
                (0.0, *(float(e) for e in np.percentile(below[below >= 0], [100 / 3, 200 / 3]))),
            )
    psf = psf_for(stack, EnhanceRequest(method="identity", psf=told))
    return _Scene(
        stack,
        raw,
        told,
        psf,
        estimate(raw),
        depth,
        edges,
        _cuts(raw, parts["Z"].start, voxel[0], depth is not None),
        voxel,
    )


def _cuts(raw: npt.NDArray[Any], first: int, step_um: float, deep: bool) -> tuple[Cut, ...]:
    planes = raw.shape[0]
    if planes == 1:
        return (Cut("", 0, 0),)
    wanted = (
        [int(share * planes) for share in DEPTHS]
        if deep
        else [int(raw.reshape(planes, -1).mean(axis=1).argmax())]
    )
    return tuple(Cut(f"z = {(first + z + 0.5) * step_um:.1f} um", 0, z) for z in wanted)


def _run(spec: MethodSpec, scene: _Scene, device: str) -> PictureRow:
    """Enhance and check.

    The result of a plane-by-plane method is blurred again in the plane only.
    """
    request = EnhanceRequest(method=spec.name, psf=scene.spec, device=device)
    parameters = request.parameters()
    try:
        with own_folder():
            result = enhance(scene.stack, request)
        image = result.stack.read().astype(np.float32)
        flat = parameters.solved_dimensions == 2
        report, _ = reblur_check(
            scene.raw,
            image,
            psf_in_the_plane(scene.psf) if flat else scene.psf,
            scene.voxel_um,
            scene.camera,
            deblurred=parameters.deblurs,
        )
    except RunCancelled:
        raise
    except Exception as error:  # noqa: BLE001 - a benchmark shows how a method failed instead of ending with it
        return PictureRow(failure=sentence(error))
    return PictureRow(
        report, scene.snr(image), tuple(result.provenance.warnings), planes=scene.shown(image)
    )


HEADER = ("file", "re-blur", "flagged %", "residual", "SNR shallow", "SNR middle", "SNR deep")


def pictures_table(report: PicturesReport, method: str) -> TextTable:
    """Return a row for each file, for one method.

    Parameters
    ----------
    report : PicturesReport
        Of several methods.
    method : str
        Which.
    """
    spec = registry.load(method).spec
    rows = tuple((file.path.name, *_figures(file, file.rows[method])) for file in report.files)
    flat = spec.defaults.solved_dimensions == 2
    again = (
        f"{spec.title.partition(' (')[0]} works plane by plane, so it is blurred again in the "
        "plane alone."
        if flat
        else ""
    )
    foot = (
        "Re-blur, flagged: where the result, blurred again, disagrees with the measurement. "
        "Residual: deviance of the re-blurred result over its "
        "expectation, near 1 where it explains the measurement down to its noise, below where it "
        f"kept noise. {again}".strip(),
        *(
            ["SNR: before → after, in thirds of a deep stack by depth below the surface."]
            if any(f.snr for f in report.files)
            else []
        ),
        *(_of_file(file) for file in report.files),
        *_warnings_of(report, method),
        *(
            f"`{file.path.name}`: {FAILED}, {file.rows[method].failure}."
            for file in report.files
            if file.rows[method].failure
        ),
        *(f"Left out: {reason}." for reason in report.left_out),
    )
    detail = ("SNR shallow", "SNR middle", "SNR deep")
    return TextTable(f"{spec.title} on real files", HEADER, rows, foot, detail)


def _figures(file: PictureFile, row: PictureRow) -> tuple[str, ...]:
    if row.report is None:
        return (FAILED, *["-"] * (len(HEADER) - 2))
    snr = (
        [f"{a:.1f} → {b:.1f}" for a, b in zip(file.snr, row.snr, strict=True)]
        if len(file.snr) == len(row.snr) == 3
        else ["-"] * 3
    )
    return (
        row.report.grade,
        f"{100 * row.report.flagged_share:.2g}",
        f"{row.report.discrepancy:.2f}",
        *snr,
    )


def _of_file(file: PictureFile) -> str:
    first = 0 if file.is_stack else 1
    shape, whole = (
        " × ".join(str(n) for n in s[first:]) for s in (file.shape_px, file.whole_shape_px)
    )
    part = f"the middle {shape} of {whole}" if shape != whole else shape
    voxel = " × ".join(f"{v:.3g}" for v in file.voxel_size_um[first:])
    thirds = (
        f" Thirds end at {file.thirds_um[0]:.1f} and {file.thirds_um[1]:.1f} µm."
        if file.snr
        else ""
    )
    data = credit_of(file.path)
    kind = "voxels" if file.is_stack else "pixels"
    return (
        f"`{file.path.name}`: {part} {kind} of {voxel} µm. PSF: {file.psf}. Camera: "
        f"{file.noise}.{thirds}" + f" Data: {data}." * bool(data)
    )


def _warnings_of(report: PicturesReport, method: str) -> list[str]:
    """Return the warnings of a method; a warning on several files appears once."""
    said: dict[str, list[str]] = {}
    for file in report.files:
        for text in file.rows[method].warnings:
            said.setdefault(text, []).append(f"`{file.path.name}`")
    return [f"{', '.join(names)}: {text}." for text, names in said.items()]


def draw_sheets(report: PicturesReport, method: str) -> dict[str, bytes]:
    """Draw a sheet for each folder of files, by its file name; a file that failed has no row."""
    title = registry.load(method).spec.title
    found = {}
    for folder, files in _by_folder(report).items():
        rows = [
            SheetRow(f"{stem(file.path)}\n{cut.title}", measured, result, file.voxel_size_um[2])
            for file in files
            for cut, measured, result in zip(
                file.cuts, file.planes, file.rows[method].planes, strict=False
            )
        ]
        if rows:
            sheet = as_small_png(draw_sheet(rows, ("measured", title)))
            found[f"pictures_{method}_{folder}.png"] = sheet
    return found


def _by_folder(report: PicturesReport) -> dict[str, list[PictureFile]]:
    folders: dict[str, list[PictureFile]] = {}
    for file in report.files:
        folders.setdefault(file.path.resolve().parent.name, []).append(file)
    return folders


def _sections(report: PicturesReport) -> list[Section]:
    """Return sheets and table of each method for its page."""
    found = []
    for method in report.methods:
        title = registry.load(method).spec.title
        folders = _by_folder(report)
        shown = []
        for name in draw_sheets(report, method):
            folder = name.removeprefix(f"pictures_{method}_").removesuffix(".png")
            files = ", ".join(stem(file.path) for file in folders[folder])
            says = f"{files}: as measured, and by {title}, at the measurement's grey scale"
            shown.append(f"![{says}](../images/{name})\n\n")
        text = "".join(shown) + pictures_table(report, method).markdown()
        found.append(Section(f"methods/{method}.md", "pictures", text))
    return found


def _measured(options: Namespace, tell: Tell) -> PicturesReport:
    if not options.methods:
        raise MethodError(
            "the experiment pictures needs methods; name them with --methods, such as dps,diffusion"
        )
    rules = read_rules(options.psf)
    return measure_pictures(
        options.real,
        options.methods,
        rules,
        quick=options.quick,
        device=options.device,
        on_progress=tell,
    )


EXPERIMENT = Experiment(
    measure=_measured,
    tables=lambda report: {name: pictures_table(report, name) for name in report.methods},
    page="methods/METHOD.md",
    pictures=lambda report: {
        name: sheet
        for method in report.methods
        for name, sheet in draw_sheets(report, method).items()
    },
    sections=_sections,
    options=(
        Option(
            "real",
            "Real files or folders of them; those of one folder share a picture.",
            "PATH,PATH",
            required="the experiment pictures needs a stack; give one with --real FILE, or a "
            "folder",
        ),
        METHODS,
        Option(
            "psf",
            "PSF of all files, or SPEC@FILES;SPEC@FILES. Without it: each file's own.",
            "SPEC",
            "",
        ),
        QUICK,
        DEVICE,
    ),
)
