"""Measures without a truth.

Thirds by depth, the re-blur check of the deepest, and stacks that cannot be measured.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import runner
from benchmarks.contenders import Contender
from benchmarks.experiments import real
from benchmarks.experiments.real import (
    RealReport,
    RealStacks,
    measure_real,
    real_contenders,
    real_table,
)
from benchmarks.paths import real_stacks
from zenhance.assess.reblur import psf_in_the_plane
from zenhance.contract import registry
from zenhance.errors import MethodError, ReadError, StackError
from zenhance.io import write_stack
from zenhance.models.catalogue import list_weights
from zenhance.physics.psf import parse_psf
from zenhance.simulate.samples import simulate
from zenhance.stack import Stack, VoxelSize

ROWS = (
    *real_contenders()[:2],
    Contender("rdn", "RDN, default weights", "rdn", weights="nowhere_at_all"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    write_stack(
        folder / "tissue.ome.tif", simulate("meristem", seed=3, shape_px=(20, 48, 48)).measured
    )
    plane = np.zeros((4, 16, 16), np.uint8)
    write_stack(folder / "few.ome.tif", Stack(plane, "ZYX", VoxelSize.of((1.0, 0.2, 0.2), "file")))
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> RealReport:
    return measure_real(folder / "tissue.ome.tif", ROWS)


def test_what_works_plane_by_plane_is_blurred_again_in_the_plane_alone() -> None:
    for method, settings, flat in (
        ("dps", {}, True),
        ("gaussian_deconvolution", {"dimensions": 2}, True),
        ("rdn", {}, False),
    ):
        assert real._is_plane_by_plane(Contender(method, method, method, settings)) == flat
    assert not real._is_plane_by_plane(Contender("gaussian_smoothing", "Gaussian smoothing"))
    told = psf_in_the_plane(parse_psf("sigma_um=0.6,0.3,0.2"))
    assert told.sigma_um[1:] == pytest.approx((0.3, 0.2))
    assert told.kernel((0.5, 0.1, 0.1), 3).shape[0] == 1


def test_every_method_that_learns_is_measured_with_its_default_weights() -> None:
    names = {row.name for row in real_contenders()}
    assert {"identity", "gaussian_smoothing", "rl", "rl_tv", "srcnn", "rdn"} <= names
    assert {n for n in registry.names() if registry.load(n).spec.learns != "no"} <= names


def test_every_model_that_ships_and_does_not_enlarge_has_a_row() -> None:
    rows = real_contenders()
    shipped = {e.name for m in ("srcnn", "rdn") for e in list_weights(m) if e.ships}
    defaults = {registry.load(m).spec.defaults.weights for m in ("srcnn", "rdn")}
    assert shipped - defaults - {"srcnn_x2", "rdn_x2"} <= {row.name for row in rows}
    assert not {"srcnn_x2", "rdn_x2"} & {row.name for row in rows}
    assert len({row.name for row in rows}) == len(rows)


def test_what_several_methods_warn_of_is_said_once(report: RealReport) -> None:
    rows = tuple(replace(row, warnings=("it is dim",)) for row in report.rows[:2])
    foot = real_table(RealStacks((replace(report, rows=rows),))).foot
    assert [line for line in foot if "it is dim" in line] == [
        "measured, Gaussian smoothing: it is dim."
    ]


def test_smoothing_raises_the_signal_to_noise_of_every_third(report: RealReport) -> None:
    raw, smooth, _ = report.rows
    assert [layer.name for layer in raw.layers] == ["L1", "L2", "deeper"]
    assert all(s.snr > r.snr for r, s in zip(raw.layers, smooth.layers, strict=True))
    # Thirds of the same specimen hold about equally many voxels.
    counts = [layer.voxels for layer in raw.layers]
    assert max(counts) < 1.4 * min(counts)


def test_a_result_that_hides_the_deep_part_is_flagged_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def emptied(
        contender: Contender, scene: real._Scene, device: str
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        image = scene.raw.astype(np.float32).copy()
        deep = scene.depth_um >= scene.edges_um[2]
        image[deep] = np.median(image[deep])
        return image, ()

    monkeypatch.setattr(real, "_image", emptied)
    (row,) = measure_real(folder / "tissue.ome.tif", ROWS[:1]).rows
    assert row.reblur is not None
    assert row.deep_grade == "fail"
    assert row.deep_share > row.reblur.flagged_share > 0


def test_a_model_that_fails_keeps_its_row(report: RealReport) -> None:
    table = real_table(RealStacks((report,)))
    assert table.rows[-1][1:3] == ("RDN, default weights", "failed")
    assert any("RDN, default weights: failed, there are no weights" in line for line in table.foot)
    assert all(len(row) == len(table.header) for row in table.rows)


def test_what_a_model_did_to_the_deepest_third_is_said(report: RealReport) -> None:
    smooth = report.rows[1]
    good = replace(smooth, name="rdn", title="RDN", deep_grade="pass", deep_share=0.0, learnt=True)
    bad = replace(
        report.rows[0], name="srcnn", title="SRCNN", deep_grade="fail", deep_share=0.02, learnt=True
    )
    foot = real_table(RealStacks((replace(report, rows=(report.rows[0], smooth, good, bad)),))).foot
    assert not any(line.startswith(("Gaussian smoothing: raises", "measured:")) for line in foot)
    assert any(
        line.startswith("RDN: raises the SNR of the deepest third")
        and "passes the re-blur check there" in line
        for line in foot
    )
    assert any(
        line.startswith("SRCNN: does not raise the SNR")
        and "fails the re-blur check there (2 % flagged)" in line
        for line in foot
    )


def test_only_the_middle_of_a_large_stack_is_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real, "MAX_VOXELS", 20 * 24 * 24)
    small = measure_real(folder / "tissue.ome.tif", ROWS[:1])
    assert small.shape_px == (20, 24, 24)
    assert small.whole_shape_px == (20, 48, 48)
    assert "the middle 20 × 24 × 24 of 20 × 48 × 48 voxels" in " ".join(
        real_table(RealStacks((small,))).foot
    )


def test_a_file_or_a_folder_may_be_given(folder: Path, tmp_path: Path) -> None:
    assert [p.name for p in real_stacks(folder)] == ["few.ome.tif", "tissue.ome.tif"]
    assert list(real_stacks(folder / "few.ome.tif")) == [folder / "few.ome.tif"]
    with pytest.raises(ReadError, match="there is no such file or folder; give the stacks"):
        list(real_stacks(tmp_path / "nowhere"))


def test_a_stack_of_few_planes_is_refused_or_named_as_left_out(
    folder: Path,
    report: RealReport,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    with pytest.raises(
        StackError, match='"few.ome.tif" is no single z-stack of at least 12 planes'
    ):
        runner.run("real", "--real", folder / "few.ome.tif")
    monkeypatch.setattr(real, "real_contenders", lambda *_: ROWS[:2])
    page = tmp_path / "benchmark.md"
    page.write_text("<!-- begin real -->\n<!-- end real -->\n", encoding="utf-8")
    monkeypatch.setattr(runner, "DOCS", tmp_path)
    runner.run("real", "--real", folder, "--out", tmp_path, "--write-docs")
    assert 'Left out: "few.ome.tif" is no single z-stack' in page.read_text(encoding="utf-8")
    assert (
        json.loads((tmp_path / "real.json").read_text(encoding="utf-8"))["stacks"][0]["file"]
        == "tissue.ome.tif"
    )
    assert "Left out" in capsys.readouterr().out


def test_a_picture_of_each_stack_is_drawn_beside_the_figures(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real, "real_contenders", lambda *_: ROWS[:2])
    files = runner.run(
        "real", "--real", folder / "tissue.ome.tif", "--out", tmp_path / "out", "--json"
    )
    picture = tmp_path / "out" / "real_tissue.png"
    assert picture in files
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 300
    record = json.loads((tmp_path / "out" / "real.json").read_text(encoding="utf-8"))
    assert "volumes" not in record["stacks"][0]


def test_only_the_rows_that_are_wanted_are_measured_and_drawn(folder: Path, tmp_path: Path) -> None:
    stack = folder / "tissue.ome.tif"
    rows = ("--methods", "gaussian_smoothing,rl")
    runner.run("real", "--real", stack, "--out", tmp_path, *rows, "--json")
    (found,) = json.loads((tmp_path / "real.json").read_text(encoding="utf-8"))["stacks"]
    assert [row["name"] for row in found["rows"]] == ["identity", "gaussian_smoothing", "rl"]
    with pytest.raises(MethodError, match='no row "difusion"; did you mean "diffusion"'):
        runner.run("real", "--real", stack, "--methods", "difusion")


def test_a_picture_has_a_column_for_each_method_that_learnt_and_heeds_the_psf() -> None:
    as_they_ship = [row.name for row in real._shown(real_contenders())]
    assert as_they_ship[:2] == ["identity", "rl"]
    assert {"diffusion", "dqlr", "divblurring", "dps"} == set(as_they_ship[2:])
    learnt = {row.name: row for row in real._shown(real_contenders(3))}
    assert set(learnt) == {
        "identity",
        "rl",
        "diffusion",
        "dqlr_alone",
        "divblurring_alone",
        "dps_alone",
    }
    assert learnt["dps_alone"].weights == "none"


def test_several_places_may_be_given_at_once(folder: Path, tmp_path: Path) -> None:
    files = [folder / "few.ome.tif", folder / "tissue.ome.tif"]
    assert list(real_stacks(f"{files[1]},{files[0]}")) == files[::-1]
    odd = tmp_path / "a,b.tif"
    odd.write_bytes(b"")
    assert list(real_stacks(odd)) == [odd]
    with pytest.raises(ReadError, match="there is no such file or folder"):
        list(real_stacks(f"{files[0]},{tmp_path / 'nowhere.tif'}"))


def test_rows_that_learn_from_the_stack_come_only_when_a_time_is_given() -> None:
    assert not [row for row in real_contenders() if row.learn_minutes is not None]
    assert {row.name for row in real_contenders(3) if row.learn_minutes == 3} >= {
        "dqlr_alone",
        "dqlr_adapted",
        "divblurring_alone",
    }
