"""The steps of DPS are measured as stated.

Known answers for an oracle, for doing nothing, and for a pattern of known strength.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import ndimage

from benchmarks import dps_steps, runner
from benchmarks.dps_losses import Taught, random_vgg, taught_by_other_losses
from benchmarks.dps_steps import (
    Cleaned,
    Finer,
    fine_scene,
    measure_artefacts,
    measure_denoising,
    measure_finer,
    wide_scene,
)
from benchmarks.experiments.modules import (
    ModulesReport,
    artefacts_table,
    denoising_table,
    finer_table,
)
from benchmarks.patterns import Pattern, put_on, share_left
from benchmarks.rivals import enlarged
from zenhance.errors import CheckpointError
from zenhance.models.catalogue import shipped_folder
from zenhance.models.checkpoint import read_checkpoint
from zenhance.simulate.structures import KINDS
from zenhance.training.recipe import Recipe
from zenhance.types import FloatArray

SEED, SIZE = 7, 96


def _plain(y: FloatArray) -> FloatArray:
    return y


def _erasing(y: FloatArray) -> FloatArray:
    return np.asarray(ndimage.gaussian_filter(y, 12), np.float32)


def test_what_does_nothing_and_what_knows_the_truth_bound_the_rivals_of_denoising() -> None:
    scene = fine_scene("rings", SEED, SIZE)
    draws: dict[str, Callable[[FloatArray], FloatArray]] = {
        "nothing": _plain,
        "oracle": lambda y: 3 * scene.expected + 2,
    }
    found = measure_denoising(draws, (10.0, 100.0), (SEED,), kinds=("rings",), size_px=SIZE)
    for photons in (10.0, 100.0):
        rows = {name: figures[photons]["rings"] for name, figures in found.items()}
        assert rows["nothing"] == rows["measurement"]
        assert rows["oracle"] > 90
        assert all(
            rows["measurement"] + 2 < rows[name] < 60
            for name in ("Gaussian", "total variation", "non-local means")
        )
    # Ten times the photons: 10 dB.
    assert found["nothing"][100.0]["rings"] - found["nothing"][10.0]["rings"] == pytest.approx(
        10, abs=2.5
    )


def test_the_wide_picture_has_half_the_resolution_of_the_sharper_one() -> None:
    found = measure_finer(
        {"nothing": partial(enlarged, finer=2)}, (3000.0,), (SEED,), kinds=("dots",), size_px=SIZE
    )
    rows = {name: figures[3000.0] for name, figures in found.items()}
    assert rows["nothing"] == rows["enlarged"]
    assert rows["enlarged"].distance_nm / rows["sharper picture"].distance_nm == pytest.approx(
        2.0, rel=0.15
    )
    assert (
        rows["sharper picture"].distance_nm
        <= rows["RL"].distance_nm
        < 0.8 * rows["enlarged"].distance_nm
    )
    assert rows["sharper picture"].psnr_db["dots"] > 100
    assert rows["RL"].psnr_db["dots"] > rows["enlarged"].psnr_db["dots"] + 1
    assert wide_scene("dots", SEED, SIZE).sharper.shape == (192, 192)


@pytest.mark.parametrize("kind", ["stripes", "honeycomb"])
def test_the_energy_that_is_left_of_a_pattern_is_the_square_of_its_strength(kind: str) -> None:
    picture = fine_scene("membranes", SEED, SIZE).expected
    pattern = Pattern.drawn(kind, 3)
    assert len(pattern.angles) == (1 if kind == "stripes" else 3)
    whole = put_on(picture, pattern)
    assert share_left(whole, picture, pattern) == pytest.approx(1.0, abs=1e-3)
    assert share_left(
        np.asarray((whole + picture) / 2, np.float32), picture, pattern
    ) == pytest.approx(0.25, abs=1e-3)
    assert share_left(picture, picture, pattern) == 0.0
    assert share_left(whole, picture, Pattern.drawn(kind, 4)) < 0.3


def test_what_is_told_of_a_pattern_and_of_a_picture_without_one() -> None:
    scene = fine_scene("areas", SEED, SIZE)
    draws: dict[str, Callable[[FloatArray], FloatArray]] = {
        "nothing": _plain,
        "oracle": lambda y: scene.expected,
        "eraser": _erasing,
    }
    found = {
        name: rows[500.0]
        for name, rows in measure_artefacts(
            draws, (500.0,), (SEED,), kinds=("areas",), size_px=SIZE
        ).items()
    }
    assert found["nothing"] == found["measurement"]
    assert found["nothing"].left == pytest.approx(1.0, abs=0.15)
    assert found["nothing"].plain_db > found["nothing"].psnr_db + 3
    assert (found["oracle"].left, found["oracle"].psnr_db > 90) == (0.0, True)
    assert found["Gaussian"].psnr_db >= found["measurement"].psnr_db
    assert found["eraser"].left < 0.1
    assert found["eraser"].plain_db < found["nothing"].plain_db - 5


def test_random_features_are_the_same_for_a_seed(tmp_path: Path) -> None:
    first, again, other = (
        load_file(random_vgg(tmp_path / f"{n}.safetensors", seed))
        for n, seed in enumerate((1, 1, 2))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    weight = "features.5.weight"
    assert not torch.equal(first[weight], other[weight])
    assert float(first[weight].std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)
    assert float(first["features.5.bias"].abs().max()) == 0.0


def _recipe() -> Recipe:
    camera = {
        "preset": "filaments_set1",
        "psf": "srpsf:fwhm_um=0.09",
        "photons": 4000.0,
        "gain": 0.5,
        "background_photons": 20.0,
    }
    plan = {
        "specimen": "structures",
        "count": 1,
        "validation": 1,
        "seed": 7,
        "shape_px": [1, 64, 64],
        "measured_only": True,
    }
    return Recipe(
        method="dps",
        name="tiny",
        architecture={
            "module": "artefacts",
            "features": 4,
            "head": 4,
            "ssim": 0.0,
            "intensity": 0.2,
            "perceptual": 1.0,
            "hessian": 0.0,
        },
        data={
            "simulated": [
                {
                    **plan,
                    "voxel_size_um": [0.1, 0.03, 0.03],
                    "settings": {"kind": "rings"},
                    "microscopes": [camera],
                }
            ]
        },
        patch_px=40,
        batch=1,
        steps=2,
        validate_every=2,
        validation_patches=1,
    )


@pytest.mark.slow
def test_each_loss_teaches_another_network_and_a_folder_keeps_them(tmp_path: Path) -> None:
    mine = random_vgg(tmp_path / "mine.safetensors", 99)
    told: list[str] = []

    def teach() -> dict[str, Taught]:
        return taught_by_other_losses(
            tmp_path,
            minutes=1.0,
            features=mine,
            recipe=_recipe(),
            tell=lambda title, _share: told.append(title),
        )

    found = teach()
    assert list(found) == ["own features", "L1 alone", "VGG16, random", "VGG16, your file"]
    assert [t.steps for t in found.values()] == [2, 2, 2, 2]
    assert told == [f"learning by {name}" for name in found]
    states = [read_checkpoint(Path(t.path)).state["out.weight"] for t in found.values()]
    assert all(not torch.equal(a, b) for n, a in enumerate(states) for b in states[:n])
    written = [Path(t.path).stat().st_mtime_ns for t in found.values()]
    assert [Path(t.path).stat().st_mtime_ns for t in teach().values()] == written


def test_a_file_without_features_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "bad.safetensors")
    for name in ("own_features", "l1_alone", "vgg16__random"):
        model = tmp_path / f"artefacts_{name}" / f"artefacts_{name}.safetensors"
        model.parent.mkdir()
        model.write_bytes(shipped_folder("dps").joinpath("dps_artefacts.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="no weights of VGG16"):
        taught_by_other_losses(
            tmp_path, minutes=1.0, features=tmp_path / "bad.safetensors", recipe=_recipe()
        )


def _report(ahead: float = 2.0, taught: dict[str, Taught] | None = None) -> ModulesReport:
    def kinds(value: float) -> dict[str, float]:
        return dict.fromkeys((*KINDS, "mixed"), value)

    denoising = {
        "measurement": {10.0: kinds(20)},
        "Gaussian": {10.0: kinds(25)},
        "total variation": {10.0: kinds(26)},
    }
    denoising["dps_denoise"] = {10.0: {**kinds(26 + ahead), "dots": 25.5}}
    finer = {"enlarged": {100.0: Finer(220, kinds(25))}, "RL": {100.0: Finer(150, kinds(27))}}
    finer |= {
        "dps_sim": {100.0: Finer(140, kinds(27 + ahead))},
        "sharper picture": {100.0: Finer(107, kinds(120))},
    }
    cleaned = {
        "measurement": {100.0: Cleaned(20, 1.0, 25)},
        "dps_artefacts": {100.0: Cleaned(28, 0.02, 30)},
    }
    return ModulesReport(denoising, finer, cleaned, taught or {}, 2)


def test_the_tables_say_who_is_ahead_and_where_it_is_worst() -> None:
    text = denoising_table(_report(2.9)).markdown()
    assert "| dps_denoise | 28.33 |" in text
    assert (
        "At 10 photons 3.33 dB ahead of Gaussian, 2.33 dB ahead of total variation; worst on "
        "dots, 0.50 dB behind the best of them." in text
    )
    assert "2 unseen specimens of each" in text
    text = finer_table(_report(-1.0)).markdown()
    assert "1.00 dB ahead of cubics, 1.00 dB behind RL" in text
    assert "| sharper picture | 107 | - |" in text


def test_the_page_says_that_imagenets_features_are_missing_unless_a_file_was_given() -> None:
    assert "`--features FILE`" in artefacts_table(_report()).markdown()
    taught = {"VGG16, your file": Taught("x", 300, 3.0)}
    text = artefacts_table(_report(taught=taught)).markdown()
    assert "`--features FILE`" not in text
    assert "VGG16, your file 300 steps in 3.0 min" in text
    assert "| dps_artefacts | 28.00 | 2.0 | 30.00 |" in text
    assert (
        "leaves 2 % of the pattern's energy and gains 8.00 dB; plain pictures gain 5.00 dB" in text
    )
    assert artefacts_table(_report()).narrow().header == ("method", "dB 100", "left % 100")


@pytest.mark.slow
def test_the_command_measures_the_weights_that_ship_and_writes_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("measure_denoising", "measure_finer", "measure_artefacts"):
        monkeypatch.setattr(
            dps_steps, name, partial(getattr(dps_steps, name), kinds=("rings",), size_px=128)
        )
    monkeypatch.setattr(
        "benchmarks.experiments.modules.taught_by_other_losses", lambda *_words, **_options: {}
    )
    page = tmp_path / "methods" / "dps.md"
    page.parent.mkdir()
    page.write_text(
        "before\n<!-- begin modules -->\nworn\n<!-- end modules -->\n", encoding="utf-8"
    )
    monkeypatch.setattr(runner, "DOCS", tmp_path)
    files = runner.run("modules", "--out", tmp_path / "out", "--quick", "--write-docs", "--json")
    assert files == (tmp_path / "out" / "modules.json", page)
    record: dict[str, Any] = json.loads(files[0].read_text(encoding="utf-8"))
    assert record == {k: v for k, v in json.loads(capsys.readouterr().out).items() if k != "files"}
    rows = record["denoise_psnr_db"]
    assert rows["dps_denoise"]["10"]["rings"] > rows["Gaussian"]["10"]["rings"] + 0.5
    assert (
        record["sim_like"]["dps_sim"]["100"]["psnr_db"]["rings"]
        > record["sim_like"]["enlarged"]["100"]["psnr_db"]["rings"] + 1
    )
    assert record["artefacts"]["dps_artefacts"]["100"]["left"] < 0.5
    text = page.read_text(encoding="utf-8")
    assert "worn" not in text
    assert all(
        f"**{title}**" in text
        for title in ("Denoise", "SIM-like reconstruction", "Artefact removal")
    )
