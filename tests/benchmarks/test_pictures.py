"""Before and after on real files.

What is taken, what is told, what is left out, and how it is drawn and credited.
"""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from benchmarks import runner
from benchmarks.credits import credit_of
from benchmarks.experiments import pictures
from benchmarks.experiments.pictures import (
    PicturesReport,
    draw_sheets,
    measure_pictures,
    pictures_table,
)
from benchmarks.machine import describe_machine
from benchmarks.pictures_sheet import (
    GAP_PX,
    MARGIN_PX,
    TILE_PX,
    TITLE_PX,
    SheetRow,
    as_small_png,
    draw_sheet,
)
from benchmarks.psf_rules import PsfRule, read_rules, told_psf
from zenhance.errors import MethodError, ReadError, StackError
from zenhance.io import write_stack
from zenhance.pipeline import EnhanceRequest
from zenhance.simulate.samples import simulate
from zenhance.stack import Stack, VoxelSize
from zenhance.types import FloatArray

DEEP, FLAT, SERIES, UNKNOWN = "deep.ome.tif", "flat.ome.tif", "series.ome.tif", "unknown.ome.tif"
README = """# Data

| file | shape | source : path @ commit | licence |
|---|---|---|---|
| `deep.ome.tif` | 24x48x48 | somebody/somewhere : deep.tif @ abc | CC-BY-4.0 |
| `flat.ome.tif` | broken row |
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    write_stack(folder / DEEP, simulate("meristem", seed=3, shape_px=(24, 48, 48)).measured)
    plane = ndimage.gaussian_filter(
        np.random.default_rng(0).poisson(30.0, (50, 60)).astype(np.float32), 1.0
    )
    write_stack(folder / FLAT, Stack(plane, "YX", VoxelSize.of((0.1, 0.1), "file")))
    write_stack(
        folder / SERIES, Stack(np.stack([plane] * 5), "TYX", VoxelSize.of((0.1, 0.1), "file"))
    )
    write_stack(folder / UNKNOWN, Stack(plane, "YX"))
    (folder / "README.md").write_text(README, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> PicturesReport:
    return measure_pictures(
        folder, ["identity", "gaussian_deconvolution"], read_rules("sigma_um=0.1,0.1@flat*")
    )


def test_a_folder_is_measured_and_what_cannot_be_is_named(report: PicturesReport) -> None:
    assert [file.path.name for file in report.files] == [DEEP, FLAT]
    said = " ".join(report.left_out)
    assert f'"{SERIES}" holds several volumes (its axes are TYX); choose a file of one' in said
    assert f'"{UNKNOWN}" does not say its voxel size; choose a file that does' in said
    assert len(report.left_out) == 2


def test_the_reason_is_raised_where_nothing_is_left(folder: Path) -> None:
    with pytest.raises(StackError, match="does not say its voxel size"):
        measure_pictures(folder / UNKNOWN, ["identity"])
    with pytest.raises(ReadError, match="there is no such file"):
        measure_pictures(folder / "nowhere.tif", ["identity"])
    with pytest.raises(MethodError, match="dsp"):
        measure_pictures(folder / FLAT, ["dsp"])


def test_a_deep_stack_has_three_depths_and_its_thirds_and_a_plane_has_one(
    report: PicturesReport,
) -> None:
    deep, flat = report.files
    assert [cut.index for cut in deep.cuts] == [3, 12, 20]
    assert deep.cuts[0].title == "z = 1.8 um"
    assert len(deep.snr) == len(deep.rows["identity"].snr) == 3
    assert deep.rows["identity"].snr == pytest.approx(deep.snr)
    assert (flat.snr, len(flat.cuts), len(flat.rows["identity"].planes)) == ((), 1, 1)
    after = deep.rows["gaussian_deconvolution"]
    assert after.planes[1].shape == deep.planes[1].shape
    assert not np.allclose(after.planes[1], deep.planes[1])
    assert after.snr != pytest.approx(deep.snr, rel=0.01)


def test_the_identity_is_what_was_measured_and_is_not_blurred_again(report: PicturesReport) -> None:
    row = report.files[0].rows["identity"]
    assert row.report is not None
    assert row.report.grade == "pass"
    assert row.report.discrepancy < 0.2


def test_an_invention_is_flagged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def invented(stack: Stack, request: EnhanceRequest) -> SimpleNamespace:
        image = stack.read().astype(np.float32)
        image[12, 20:26, 20:26] = 6 * image.max()
        return SimpleNamespace(
            stack=stack.with_data(image), provenance=SimpleNamespace(warnings=["it is invented"])
        )

    monkeypatch.setattr(pictures, "enhance", invented)
    report = measure_pictures(folder / DEEP, ["gaussian_deconvolution"])
    table = pictures_table(report, "gaussian_deconvolution")
    assert table.rows[0][:2] == (DEEP, "fail")
    assert float(table.rows[0][2]) >= 0.1
    assert f"`{DEEP}`: it is invented." in table.foot


def test_a_plane_by_plane_method_is_blurred_again_in_the_plane_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, tuple[float, ...]] = {}

    def noted(raw: Any, image: Any, psf: Any, *words: Any, **options: Any) -> Any:
        seen[running[0]] = psf.sigma_um
        raise StackError("enough was seen")

    def unchanged(stack: Stack, request: EnhanceRequest) -> SimpleNamespace:
        return SimpleNamespace(stack=stack, provenance=SimpleNamespace(warnings=[]))

    running = [""]
    monkeypatch.setattr(pictures, "enhance", unchanged)
    monkeypatch.setattr(pictures, "reblur_check", noted)
    for running[0] in ("dps", "gaussian_deconvolution"):
        report = measure_pictures(folder / DEEP, running, (PsfRule("sigma_um=0.6,0.2,0.2"),))
        table = pictures_table(report, running[0])
        assert table.rows[0][1] == "failed"
        assert f"`{DEEP}`: failed, enough was seen." in table.foot
    assert seen == {"dps": (0.0, 0.2, 0.2), "gaussian_deconvolution": (0.6, 0.2, 0.2)}
    assert "blurred again in the plane alone" not in table.foot[0]


def test_only_the_middle_is_taken_but_depth_is_measured_from_the_surface(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure_pictures(folder / DEEP, ["identity"]).files[0]
    monkeypatch.setattr(pictures, "QUICK_PX", (13, 40))
    part = measure_pictures(folder / DEEP, ["identity"], quick=True).files[0]
    assert (part.shape_px, part.whole_shape_px) == ((13, 40, 40), (24, 48, 48))
    assert part.cuts[0].title == "z = 3.2 um"
    # A stack whose upper third was cut away is not taken to begin at a surface.
    assert part.thirds_um[0] > 0.5 * whole.thirds_um[0]
    assert part.planes[0].shape == (40, 40)
    assert "the middle 13 × 40 × 40 of 24 × 48 × 48 voxels" in " ".join(
        pictures_table(_report(part), "identity").foot
    )


def _report(file: pictures.PictureFile) -> PicturesReport:
    return PicturesReport(("identity",), (file,), (), describe_machine())


def test_source_and_licence_stand_below_the_table(report: PicturesReport, folder: Path) -> None:
    foot = pictures_table(report, "identity").foot
    (line,) = [line for line in foot if line.startswith(f"`{DEEP}`")]
    assert line.endswith("Data: somebody/somewhere : deep.tif @ abc, CC-BY-4.0.")
    assert not any("Data:" in line for line in foot if FLAT in line)
    assert credit_of(folder / FLAT) == ""
    assert credit_of(folder.parent / "elsewhere.tif") == ""


def test_each_file_is_told_the_first_psf_that_fits_its_name(tmp_path: Path) -> None:
    rules = read_rules("sigma_um=0.3,0.1,0.1@conf*; widefield:na=1.4,n=1.515,em_nm=461@*DAPI*")
    assert told_psf(Path("a/confocal_DAPI.tif"), rules) == ("sigma_um=0.3,0.1,0.1", "")
    assert told_psf(Path("my_DAPI.tif"), rules)[0] == "widefield:na=1.4,n=1.515,em_nm=461"
    assert told_psf(Path("other.tif"), rules) == (None, "")
    assert told_psf(Path("other.tif"), read_rules("sigma_um=0.1,0.1")) == ("sigma_um=0.1,0.1", "")
    assert read_rules("") == ()
    for wrong in ("@conf*", "sigma_um=0.1,0.1@", "sgma=3@x*"):
        with pytest.raises(MethodError):
            read_rules(wrong)


def test_beads_tell_their_own_width(tmp_path: Path) -> None:
    spots = np.zeros((3, 90, 90), np.float32)
    spots[1, 30, 30] = spots[1, 60, 60] = 1000.0
    beads = write_stack(
        tmp_path / "beads.ome.tif",
        Stack(
            ndimage.gaussian_filter(spots, (0.5, 3.0, 3.0)),
            "ZYX",
            VoxelSize.of((0.1, 0.03, 0.03), "file"),
        ),
    )
    spec, origin = told_psf(Path("grid.tif"), read_rules(f"beads:{beads}@grid*"))
    z, y, x = (float(v) for v in str(spec).removeprefix("fwhm_um=").split(","))
    assert y == x == pytest.approx(0.03 * 3 * 2.3548, rel=0.06)
    assert z == pytest.approx(3 * y, rel=0.01)
    assert origin == "the beads of beads.ome.tif"


def _tile(sheet: FloatArray, column: int, wide: int = TILE_PX) -> FloatArray:
    left = MARGIN_PX + column * (wide + GAP_PX)
    return sheet[TITLE_PX : TITLE_PX + wide, left : left + wide]


def test_both_columns_have_the_grey_scale_of_the_measurement() -> None:
    plane = np.tile(np.linspace(100, 200, TILE_PX, dtype=np.float32), (TILE_PX, 1))
    sheet = np.asarray(
        draw_sheet([SheetRow("a", plane, plane + 20, 0.1)], ("before", "after"))
    ).astype(float)
    before, after = _tile(sheet, 0)[50:200], _tile(sheet, 1)[50:200]
    assert (before.min(), before.max()) == (0, 255)
    assert (after - before)[:, :200].mean() == pytest.approx(20 / 99.3 * 255, abs=3)
    assert after[:, -40:].min() == 255


def test_a_small_plane_is_enlarged_a_large_one_cut_and_the_bar_is_as_long_as_it_says() -> None:
    small, large = np.zeros((70, 70), np.float32), np.zeros((500, 400), np.float32)
    # A third of 70 pixels of 0.1 µm leaves room for 2 µm: 20 pixels, enlarged four times.
    sheet = np.asarray(draw_sheet([SheetRow("small", small, small, 0.1)], ("a", "b")))
    assert sheet.shape == (TITLE_PX + 280 + GAP_PX, MARGIN_PX + 2 * (280 + GAP_PX))
    assert (_tile(sheet, 0, 280)[280 - 9] == 255).sum() == 80
    large[100 + 5, 50 + 7] = 1.0
    tile = _tile(np.asarray(draw_sheet([SheetRow("large", large, large, 0.1)], ("a", "b"))), 1)
    assert np.argwhere(tile == 255).tolist() == [[5, 7]]


def test_a_picture_of_noise_is_made_small_and_keeps_its_shape_and_range() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 500), dtype=np.uint8)
    small = as_small_png(Image.fromarray(noise), 90_000)
    assert len(small) <= 90_000
    fewer = np.asarray(Image.open(io.BytesIO(small))).astype(int)
    assert (fewer.shape, fewer.min(), fewer.max()) == ((400, 500), 0, 255)
    assert np.abs(fewer - noise).max() <= 32
    whole = Image.open(io.BytesIO(as_small_png(Image.fromarray(noise))))
    assert np.array_equal(np.asarray(whole), noise)


def test_tables_and_pictures_go_into_each_methods_page(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pages = tmp_path / "methods"
    pages.mkdir()
    methods = ["identity", "gaussian_deconvolution"]
    for name in methods:
        (pages / f"{name}.md").write_text(
            "<!-- begin pictures -->\nworn\n<!-- end pictures -->\n", encoding="utf-8"
        )
    monkeypatch.setattr(runner, "DOCS", tmp_path)
    place = f"{folder / DEEP},{folder / FLAT}"
    files = runner.run(
        "pictures",
        "--real",
        place,
        "--methods",
        ",".join(methods),
        "--out",
        tmp_path / "out",
        "--quick",
        "--write-docs",
        "--json",
    )
    for name in methods:
        text = (pages / f"{name}.md").read_text(encoding="utf-8")
        assert "worn" not in text
        picture = tmp_path / "images" / f"pictures_{name}_{folder.name}.png"
        assert f"](../images/{picture.name})" in text
        assert {picture, tmp_path / "out" / picture.name} <= set(files)
        with Image.open(picture) as drawn:
            # Three depths of one file, and the plane of the other.
            assert drawn.height == TITLE_PX + 3 * (288 + GAP_PX) + 5 * 50 + GAP_PX
    record = json.loads((tmp_path / "out" / "pictures.json").read_text(encoding="utf-8"))
    assert record["pictures"][0]["rows"]["gaussian_deconvolution"]["report"]["judged_voxels"] > 1000
    assert str(folder) not in json.dumps(record)
    (line,) = capsys.readouterr().out.splitlines()
    assert len(json.loads(line)["pictures"]) == 2
    with pytest.raises(MethodError, match="needs methods; name them with --methods"):
        runner.run("pictures", "--real", place)


def test_what_failed_has_a_row_but_no_picture(report: PicturesReport) -> None:
    deep, flat = report.files
    broken = replace(flat, rows={"identity": pictures.PictureRow(failure="it broke")})
    saved = draw_sheets(replace(report, files=(broken,)), "identity")
    assert saved == {}
    both = draw_sheets(replace(report, files=(deep, broken)), "identity")
    (sheet,) = both.values()
    with Image.open(io.BytesIO(sheet)) as drawn:
        assert drawn.height == TITLE_PX + 3 * (288 + GAP_PX)


def test_the_real_files_are_taken_as_their_readme_says(shared_data: Path) -> None:
    files = shared_data / "fluorescence"
    report = measure_pictures(
        f"{files / 'celegans_2d.tif'},{files / 'membrane_2d_timelapse.tif'}",
        ["identity"],
        quick=True,
    )
    (file,) = report.files
    assert (file.shape_px, file.whole_shape_px) == ((1, 230, 230), (1, 316, 316))
    assert "BSD-3-Clause" in " ".join(pictures_table(report, "identity").foot)
    assert report.left_out == (
        '"membrane_2d_timelapse.tif" does not say its voxel size; choose a file that does',
    )
