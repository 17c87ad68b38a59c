"""Cross-domain test on folders of your own pictures, with trainings.

::

    folder A ─┬─ 80 % ─► blurred, noisy ─► SRCNN, RDN, diffusion trained on A, B, A and B ─┐
    folder B ─┤                                                                            ├─► table
              └─ 20 % of each ─► blurred, noisy ─► every network, on every folder ─────────┤
    folder C ─── all, only for the test ───────────────────────────────────────────────────┘

Each colour is a plane of its own. The degradation is that of the forward process, at one level.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import Machine, describe_machine
from benchmarks.measures import edge_share
from benchmarks.paths import RECIPES
from benchmarks.runner import DEVICE, Experiment, Option, Tell, minutes, words
from benchmarks.tables import TextTable, mean_sd
from zenhance.assess.truth import psnr_db, ssim
from zenhance.errors import ReadError, StackError
from zenhance.io import open_stack
from zenhance.methods.diffusion.forward_process import Timestep
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.stack import Stack
from zenhance.types import FloatArray

__all__ = ["EXPERIMENT", "FoldersReport", "PictureScore", "folders_table", "measure_folders"]

LEVEL = Timestep(0.55, 0.1, 0.5)
"""Blur with a standard deviation of 1.55 px, noise of 5.5 % of white."""
TEST_SHARE = 0.2
MAX_PICTURES = 200
MIN_PICTURES = 5
MIN_PX = 64
MAX_PX = 512
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
METHODS = (("srcnn", "SRCNN"), ("rdn", "RDN"), ("diffusion", "diffusion"))
STEPS = (1, 5, 20, 100)
Picture = tuple[Stack, Stack]
"""What is to be enhanced and the original, (C, Y, X), 0 to 1, one micrometre a pixel."""


@dataclass(frozen=True, slots=True)
class PictureScore:
    """One network on one picture, over all colours.

    RMSE is per pixel on a scale of 0 to 255.
    """

    rmse: float
    psnr_db: float
    ssim: float
    sharp: float


@dataclass(frozen=True)
class FoldersReport:
    """Figures by row and folder, an entry for each picture.

    ``counts`` holds the pictures of each folder for training and for the test.
    """

    scores: Mapping[str, Mapping[str, tuple[PictureScore, ...]]]
    counts: Mapping[str, tuple[int, int]]
    minutes: float
    machine: Machine

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        scores = {
            row: {folder: [asdict(s) for s in found] for folder, found in by.items()}
            for row, by in self.scores.items()
        }
        return {
            "scores": scores,
            "pictures": dict(self.counts),
            "minutes": self.minutes,
            "machine": asdict(self.machine),
        }


def measure_folders(
    folders: Sequence[str | Path],
    *,
    minutes: float = 5.0,
    device: str = "cpu",
    seed: int = 0,
    on_progress: Tell | None = None,
) -> FoldersReport:
    """Train SRCNN, RDN and diffusion on two folders and on both; test on each and on a third.

    Parameters
    ----------
    folders : sequence of str or Path
        Two folders of pictures, or three, of which the last is never learnt from.
    minutes : float
        How long each network learns, at most; all take the same number of patches.
    device : str
        Where to compute.
    seed : int
        Of the division into training and test, and of the noise.
    on_progress : callable, optional
        Called with a title and the fraction done.

    Raises
    ------
    StackError
        There are not two or three folders, or one holds too few pictures that can be used.
    """
    if len(folders) not in (2, 3):
        raise StackError(
            f"{len(folders)} folders were given; give two to learn from, and if you like a third "
            "to test on"
        )
    names = _names([Path(f) for f in folders])
    learn: dict[str, list[Picture]] = {}
    test: dict[str, list[Picture]] = {}
    for number, (name, folder) in enumerate(zip(names, folders, strict=True)):
        pictures = _pictures(Path(folder), seed)
        many = len(pictures) if number == 2 else max(1, round(TEST_SHARE * len(pictures)))
        test[name], learn[name] = pictures[:many], pictures[many:]
    first, second = names[0], names[1]
    trainings = {first: learn[first], second: learn[second], "both": learn[first] + learn[second]}
    scores = {
        "none (identity)": {
            name: tuple(_score(np.asarray(seen.data), truth) for seen, truth in test[name])
            for name in names
        }
    }
    tell = on_progress or (lambda _title, _fraction: None)
    with tempfile.TemporaryDirectory() as scratch:
        for number, (method, title) in enumerate(METHODS):
            for place, (data, pictures) in enumerate(trainings.items()):
                tell(
                    f"{title} learns {data}",
                    (number * len(trainings) + place) / (len(METHODS) * len(trainings)),
                )
                weights = _trained(
                    method, pictures, Path(scratch) / f"{method}_{place}", minutes, device
                )
                for row, settings in _rows(method, f"{title} on {data}"):
                    request = EnhanceRequest(
                        method=method,
                        settings=settings,
                        weights=weights,
                        psf=_psf(),
                        device=device,
                        arbitrate=False,
                    )
                    scores[row] = {
                        name: tuple(
                            _score(_enhanced(seen, request), truth) for seen, truth in test[name]
                        )
                        for name in names
                    }
    counts = {
        name: (0 if number == 2 else len(learn[name]), len(test[name]))
        for number, name in enumerate(names)
    }
    return FoldersReport(scores, counts, minutes, describe_machine())


def _names(folders: list[Path]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    return (
        names
        if len(set(names)) == len(names)
        else [f"{name} {n + 1}" for n, name in enumerate(names)]
    )


def _psf() -> str:
    return "sigma_um=" + ",".join(f"{s:.4f}" for s in LEVEL.sigma_px[1:])


def _rows(method: str, title: str) -> list[tuple[str, dict[str, Any]]]:
    return (
        [(f"{title}, N = {n}", {"steps": n}) for n in STEPS]
        if method == "diffusion"
        else [(title, {})]
    )


def _pictures(folder: Path, seed: int) -> list[Picture]:
    """Return the readable pictures of a folder in random order, degraded and original."""
    files = (
        sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        if folder.is_dir()
        else []
    )
    rng = np.random.default_rng(seed)
    found: list[Picture] = []
    for number in rng.permutation(len(files)):
        if len(found) == MAX_PICTURES:
            break
        try:
            sharp = _planes(open_stack(files[int(number)]))
        except (ReadError, StackError):
            continue
        if min(sharp.shape[1:]) >= MIN_PX:
            found.append(_pair(sharp, seed + len(found)))
    if len(found) < MIN_PICTURES:
        raise StackError(
            f'the folder "{folder.name}" holds {len(found)} pictures of at least {MIN_PX} pixels '
            f"a side; {MIN_PICTURES} are needed"
        )
    return found


def _planes(stack: Stack) -> FloatArray:
    """Return the middle of a picture, (C, Y, X), from 0 to 1, without transparency."""
    if stack.size("Z") > 1 or stack.size("T") > 1:
        raise StackError("a stack or a series is no picture; give single images")
    planes = [stack.read(0, c)[0].astype(np.float32) for c in range(min(3, stack.size("C")))]
    most = (
        float(np.iinfo(stack.dtype).max)
        if np.issubdtype(stack.dtype, np.integer)
        else max(float(np.max(planes)), 1e-12)
    )
    image = np.stack(planes) / np.float32(most)
    height, width = (min(n, MAX_PX) // 4 * 4 for n in image.shape[1:])
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return np.ascontiguousarray(image[:, top : top + height, left : left + width])


def _pair(sharp: FloatArray, seed: int) -> Picture:
    import torch

    from zenhance.methods.diffusion.forward_process import degraded

    specimen = torch.from_numpy(sharp)[:, None]
    normal = torch.randn(specimen.shape, generator=torch.Generator().manual_seed(seed))
    damaged = degraded(specimen, LEVEL, normal)[:, 0].numpy()
    return Stack.from_array(damaged, "CYX", (1.0, 1.0)), Stack.from_array(sharp, "CYX", (1.0, 1.0))


def _trained(
    method: str, pictures: list[Picture], folder: Path, minutes: float, device: str
) -> str:
    """Return the weights of a network trained on these pictures by the small recipe that ships."""
    from zenhance.training.data import of_stacks
    from zenhance.training.loop import train
    from zenhance.training.recipe import load_recipe

    volumes = [
        v
        for n, (seen, truth) in enumerate(pictures)
        for v in of_stacks(f"picture {n}", seen, truth)
    ]
    held = volumes[:: max(2, len(volumes) // 6)]
    rest = [v for v in volumes if not any(v is h for h in held)]
    small = load_recipe(str(RECIPES / f"{method}_meristem.yaml"))
    data = small.data.model_copy(update={"simulated": (), "pairs": (), "stacks": (), "psf": _psf()})
    equal = {
        "batch": 10,
        "steps": 1800,
        "minutes": minutes,
        "data": data,
        "name": folder.name,
        "description": "pictures",
    }
    return str(
        train(small.model_copy(update=equal), folder, device=device, volumes=(rest, held)).path
    )


def _enhanced(seen: Stack, request: EnhanceRequest) -> FloatArray:
    image = enhance(seen, request).stack
    return np.stack([image.read(0, c)[0] for c in range(image.size("C"))]).astype(np.float32)


def _score(image: FloatArray, truth: Stack) -> PictureScore:
    sharp = np.asarray(truth.data, np.float32)
    image = np.asarray(image, np.float32).reshape(sharp.shape)
    error = float(np.sqrt(np.mean(np.square(image.astype(np.float64) - sharp))))
    likeness = float(
        np.mean([ssim(a[None], b[None], 1.0) for a, b in zip(image, sharp, strict=True)])
    )
    return PictureScore(
        255 * error,
        psnr_db(image, sharp, 1.0),
        likeness,
        edge_share(image, sharp, np.ones(sharp.shape, np.bool_)),
    )


def folders_table(report: FoldersReport) -> TextTable:
    """Return a row a network and training, and for each folder RMSE, PSNR, SSIM and sharpness."""
    header = ["trained"]
    for name in report.counts:
        header += [f"{name}: RMSE", "PSNR dB", "SSIM", "sharp"]
    rows = []
    for title, by in report.scores.items():
        cells = [title]
        for found in by.values():
            cells += [mean_sd([s.rmse for s in found], 2), mean_sd([s.psnr_db for s in found], 2)]
            cells += [
                f"{np.mean([s.ssim for s in found]):.3f}",
                f"{np.mean([s.sharp for s in found]):.2f}",
            ]
        rows.append(tuple(cells))
    pictures = ", ".join(
        f"{name} {learnt} and {tested}" for name, (learnt, tested) in report.counts.items()
    )
    foot = (
        f"Pictures learnt from and tested on: {pictures}; each network learnt for at most "
        f"{report.minutes:g} minutes.",
        f"Damage: blur with a standard deviation of {LEVEL.sigma_px[1]:.2f} px, noise of "
        f"{100 * LEVEL.noise:.1f} % where it is white.",
        "RMSE per pixel, of 255; sharp: share of the original's edges, 1 is as sharp.",
        f"Measured on {report.machine.describe()}.",
    )
    return TextTable(
        "Trained on one folder, tested on another",
        tuple(header),
        tuple(rows),
        foot,
        ("PSNR dB", "SSIM", "sharp"),
    )


EXPERIMENT = Experiment(
    measure=lambda options, tell: measure_folders(
        options.folders, minutes=options.minutes, device=options.device, on_progress=tell
    ),
    tables=lambda report: {"folders": folders_table(report)},
    sections=lambda _report: (),
    options=(
        Option(
            "folders",
            "Two folders of pictures to learn from and test on, and a third to test on.",
            "DIR,DIR,DIR",
            (),
            words,
        ),
        Option(
            "minutes", "Longest training of each of the nine networks.", "MINUTES", 5.0, minutes
        ),
        DEVICE,
    ),
)
