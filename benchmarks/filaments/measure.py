"""The table of the report on DivBlurring, repeated: training without a truth.

::

    training images ─┬─► DivNoising, DivBlurring, penalties ─► mean of 100 samples ─┐
                     └─► the ladder, self-trained           ─► mean of 100 samples ─┼─► PSNR
    unseen images    ───► Wiener, Richardson-Lucy, total variation, shipped models ─┘

The two sets follow S. Muttavarapu ("Variational autoencoders for image deconvolution in
fluorescence microscopy", 2022) as far as the report describes them; see the presets
``filaments_set1`` and ``filaments_set2`` of :mod:`zenhance.simulate.presets`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.console import write_json
from benchmarks.contenders import Contender
from benchmarks.filaments.rivals import Best, best_by_truth
from benchmarks.filaments.rows import (
    METHOD,
    PRESETS,
    ROWS,
    TRAINING_SEED,
    FilamentOptions,
    Row,
)
from benchmarks.filaments.training import (
    ALONE_IMAGES,
    Speed,
    Trained,
    alone_recipe,
    data_without_truth,
    flat_recipe,
    input_of,
    nats_per_latent,
    samples_per_second,
    trained,
)
from benchmarks.judging import enhance_scene
from benchmarks.machine import Machine, describe_machine
from benchmarks.scenes import FILAMENTS_VOXEL_UM, Plan, Scene
from zenhance.assess.truth import affine_fit
from zenhance.errors import RunCancelled, sentence
from zenhance.models.catalogue import find_weights
from zenhance.training.data import TrainingVolume, load_volumes
from zenhance.training.recipe import Data
from zenhance.types import FloatArray

__all__ = ["FilamentReport", "RowScore", "measure_filaments", "report_psnr_db", "unseen_plans"]

Tell = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class RowScore:
    """PSNR in dB of a row on a set, by repeat and image, or why it failed.

    Parameters
    ----------
    psnr_db : tuple of tuple of float
        A training each, in it an unseen image each.
    nats : tuple of float
        Kullback-Leibler divergence per latent, a level each, coarsest first, over the unseen images
        and repeats.
    loss : tuple of (step, loss)
        Of the validation images, mean over the repeats.
    note, failure : str
        What is to be said.
    """

    psnr_db: tuple[tuple[float, ...], ...] = ()
    nats: tuple[float, ...] = ()
    loss: tuple[tuple[float, float], ...] = ()
    note: str = ""
    failure: str = ""

    def by_repeat(self) -> list[float]:
        """Return the mean over the images of each repeat."""
        return [float(np.mean(images)) for images in self.psnr_db]

    def by_image(self) -> list[float]:
        """Return the mean over the repeats of each image."""
        return [float(np.mean(repeats)) for repeats in zip(*self.psnr_db, strict=True)]


@dataclass(frozen=True)
class FilamentReport:
    """All figures: ``scores[set][row]``."""

    rows: tuple[Row, ...]
    options: FilamentOptions
    scores: Mapping[str, Mapping[str, RowScore]]
    machine: Machine
    speeds: tuple[Speed, ...] = field(default=())

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON can hold them."""
        scores = {
            name: {row: asdict(score) for row, score in rows.items()}
            for name, rows in self.scores.items()
        }
        speeds = [asdict(speed) for speed in self.speeds]
        return {
            "options": asdict(self.options),
            "scores": scores,
            "speeds": speeds,
            "machine": asdict(self.machine),
        }


def report_psnr_db(image: FloatArray, light: FloatArray) -> float:
    """Return the PSNR of the report: ``20 log10(largest light / RMSE)`` after an affine fit.

    Parameters
    ----------
    image : float32 array (Z, Y, X)
        The result.
    light : float32 array (Z, Y, X)
        The truth above the camera's offset.
    """
    slope, offset = affine_fit(image, light)
    error = math.sqrt(float(np.mean(np.square(slope * image.astype(np.float64) + offset - light))))
    return math.inf if error == 0 else 20 * math.log10(float(light.max()) / error)


def unseen_plans(preset: str, options: FilamentOptions) -> tuple[Plan, ...]:
    """Return the unseen images of a set."""
    seeds = range(options.test_seed, options.test_seed + options.test_images)
    return tuple(
        Plan(
            f"{preset} {n}",
            "filaments",
            n,
            options.shape_px,
            FILAMENTS_VOXEL_UM,
            {"preset": preset},
        )
        for n in seeds
    )


def measure_filaments(
    options: FilamentOptions | None = None,
    *,
    rows: Sequence[Row] = ROWS,
    sets: Sequence[str] = PRESETS,
    folder: Path | None = None,
    device: str = "cpu",
    on_progress: Tell | None = None,
) -> FilamentReport:
    """Train the networks, and judge all rows.

    Parameters
    ----------
    options : FilamentOptions, optional
        How large; left out, what two cores do in about half an hour.
    rows, sets : sequence
        Of :data:`ROWS`, and presets of :data:`SETS`.
    folder : Path, optional
        Keeps what is trained, and what is there already of the same options is taken up; left out,
        nothing is kept.
    device : str
        Where to compute.
    on_progress : callable, optional
        Called with a title and the fraction done.
    """
    options = options or FilamentOptions()
    machine = describe_machine()
    scores: dict[str, dict[str, RowScore]] = {}
    speeds: tuple[Speed, ...] = ()
    done, total = 0, sum(_cost(row, options) for row in rows) * len(sets)
    with (
        nullcontext(str(folder))
        if folder is not None
        else TemporaryDirectory(prefix="zenhance-filaments-") as place
    ):
        for preset in sets:
            bench = _Bench.of(preset, options, Path(place) / preset, device)
            scores[preset] = {}
            for row in rows:
                weight, before = _cost(row, options), done

                def tell(
                    share: float,
                    row: Row = row,
                    weight: int = weight,
                    before: int = before,
                    preset: str = preset,
                ) -> None:
                    if on_progress is not None:
                        on_progress(
                            f"{preset.removeprefix('filaments_')}: {row.title}",
                            (before + weight * share) / total,
                        )

                tell(0.0)
                scores[preset][row.name] = _score(row, bench, tell)
                done += weight
            if not speeds:
                speeds = tuple(
                    _speeds(
                        bench, [row for row in rows if not scores[preset][row.name].failure], place
                    )
                )
    return FilamentReport(tuple(rows), options, scores, machine, speeds)


def _cost(row: Row, options: FilamentOptions) -> int:
    """Return a row's share of the work, for progress."""
    return 1 if row.architecture is None else 12 * (options.repeats if not row.alone else 1)


@dataclass
class _Bench:
    """Images of a set, and the folder of its networks."""

    preset: str
    options: FilamentOptions
    folder: Path
    device: str
    scenes: list[Scene]
    volumes: tuple[list[TrainingVolume], list[TrainingVolume]] | None = None

    @classmethod
    def of(cls, preset: str, options: FilamentOptions, folder: Path, device: str) -> _Bench:
        scenes = [plan.make() for plan in unseen_plans(preset, options)]
        return cls(preset, options, folder, device, scenes)

    def psnr_db(self, contender: Contender) -> tuple[float, ...]:
        if contender.method == METHOD:
            contender = replace(
                contender, settings={**contender.settings, "samples": self.options.samples}
            )
        return tuple(
            report_psnr_db(enhance_scene(contender, scene, self.device)[0], _light(scene))
            for scene in self.scenes
        )

    def nats(self, contender: Contender) -> tuple[float, ...]:
        """Return the nats per latent of a model that ships; empty where it has no latents."""
        if contender.method != METHOD or contender.weights is None:
            return ()
        return self.nats_of(find_weights(METHOD, contender.weights, contender.weights))

    def nats_of(self, path: Path) -> tuple[float, ...]:
        return tuple(nats_per_latent(path, [input_of(path, scene) for scene in self.scenes[:2]]))

    def trained(self, row: Row, repeat: int, tell: Callable[[float], None]) -> Trained:
        options, name, architecture = self.options, f"{row.name}_{repeat}", row.architecture or {}
        flat = flat_recipe(
            name, self._data(options.images), architecture, options.steps, options.minutes, repeat
        )
        if self.volumes is None:
            self.volumes = load_volumes(flat)
        if not row.alone:
            return trained(flat, self.folder / name, self.volumes, self.device, tell)
        few = self.volumes[0][:ALONE_IMAGES]
        psf = self.scenes[0].psf_spec
        recipe = alone_recipe(
            name, self._data(len(few)), psf, architecture, options.steps, options.minutes, repeat
        )
        return trained(recipe, self.folder / name, (few, []), self.device, tell)

    def _data(self, images: int) -> Data:
        return data_without_truth(self.preset, images, TRAINING_SEED, self.options.shape_px)


def _light(scene: Scene) -> FloatArray:
    return np.asarray(scene.truth - np.float32(scene.microscope.offset), np.float32)


def _score(row: Row, bench: _Bench, tell: Callable[[float], None]) -> RowScore:
    try:
        if row.tuned is not None:
            return _of_best(
                [
                    best_by_truth(s, _light(s), row.tuned, bench.options.iterations, report_psnr_db)
                    for s in bench.scenes
                ]
            )
        if row.contender is not None:
            return RowScore((bench.psnr_db(row.contender),), bench.nats(row.contender))
        return _kept_or(row, bench, tell)
    except RunCancelled:
        raise
    except Exception as error:  # noqa: BLE001 - a benchmark shows how a row failed instead of ending with it
        return RowScore(failure=sentence(error))


def _of_best(found: Sequence[Best]) -> RowScore:
    chosen = sorted(best.iteration for best in found)
    note = (
        f"iterations {chosen[0]} to {chosen[-1]} by image, {chosen[len(chosen) // 2]} in the middle"
    )
    if any(best.tv_weight for best in found):
        note += (
            f"; weights {min(b.tv_weight for b in found):g} to {max(b.tv_weight for b in found):g}"
        )
    return RowScore((tuple(best.psnr_db for best in found),), note=note)


def _kept_or(row: Row, bench: _Bench, tell: Callable[[float], None]) -> RowScore:
    """Return the score of an earlier run with the same options, or train and judge."""
    path = bench.folder / f"{row.name}.json"
    asked = json.loads(
        json.dumps({"options": asdict(bench.options), "architecture": dict(row.architecture or {})})
    )
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["asked"] == asked:
            return RowScore(**{key: _tuples(value) for key, value in known["score"].items()})
    score = _of_trained(row, bench, tell)
    write_json(path, {"asked": asked, "score": asdict(score)})
    return score


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value


def _of_trained(row: Row, bench: _Bench, tell: Callable[[float], None]) -> RowScore:
    repeats = bench.options.repeats if not row.alone else 1
    psnr, nats, losses = [], [], []
    for repeat in range(repeats):
        made = bench.trained(row, repeat, _part(tell, repeat, repeats))
        settings = {"preset": "divblurring" if row.alone else "paper"}
        psnr.append(bench.psnr_db(Contender(row.name, row.title, METHOD, settings, str(made.path))))
        nats.append(bench.nats_of(made.path))
        losses.append(made.loss)
    return RowScore(tuple(psnr), tuple(np.mean(nats, axis=0).tolist()), _mean_curve(losses))


def _part(tell: Callable[[float], None], number: int, of: int) -> Callable[[float], None]:
    """Pass the progress of a training on as its part of the row; judging is the rest."""
    return lambda share: tell((number + 0.8 * share) / of)


def _mean_curve(curves: Sequence[Mapping[float, float]]) -> tuple[tuple[float, float], ...]:
    """Average the losses at the steps that all repeats reached."""
    steps = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    return tuple((step, float(np.mean([curve[step] for curve in curves]))) for step in steps)


def _speeds(bench: _Bench, rows: Sequence[Row], place: str) -> list[Speed]:
    """Time drawing with the first trained model of each kind."""
    found = []
    for title, wanted in (
        ("the report's network", [r for r in rows if r.architecture is not None and not r.alone]),
        ("the ladder", [r for r in rows if r.alone]),
    ):
        files = [
            p
            for row in wanted
            for p in sorted(
                (Path(place) / bench.preset / f"{row.name}_0").glob(f"{row.name}_0.safetensors")
            )
        ]
        if files:
            found.append(
                samples_per_second(
                    title,
                    files[0],
                    input_of(files[0], bench.scenes[0]),
                    bench.options.samples,
                    bench.device,
                )
            )
    return found
