"""Small files that once went wrong give the answer that their README lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zenhance.io import inspect_image, open_stack, write_stack
from zenhance.io.names import images_in, left_out

ZYX_UM = (0.5, 0.2, 0.2)


@pytest.fixture(scope="module")
def cases(shared_data: Path) -> Path:
    folder = shared_data / "cases"
    if not folder.is_dir():
        pytest.skip(f"the cases are not on this machine ({folder})")
    return folder


def pixels(path: Path, **options: Any) -> np.ndarray[Any, Any]:
    return np.asarray(open_stack(path, **options).data)


def test_signed_16_bit_of_fiji_has_its_values_and_is_written_back(
    cases: Path, tmp_path: Path
) -> None:
    truth = pixels(cases / "c01_true.tif")
    stack = open_stack(cases / "c01_signed.tif")
    np.testing.assert_array_equal(np.asarray(stack.data), truth)
    assert stack.dtype == np.int16
    assert stack.voxel_size.zyx_um == pytest.approx(ZYX_UM)
    back = open_stack(write_stack(tmp_path / "a.tif", stack))
    np.testing.assert_array_equal(np.asarray(back.data), truth)
    assert back.voxel_size.zyx_um == pytest.approx(ZYX_UM)


@pytest.mark.parametrize(
    ("name", "axes", "shape"),
    [
        ("c02_imaris.ims", "CZYX", (2, 14, 60, 62)),
        ("c03_bdv.h5", "ZYX", (16, 64, 64)),
        ("c04_xyz.h5", "ZYX", (16, 64, 60)),
        ("c04_yxc.h5", "CYX", (2, 64, 60)),
        ("c07_thumbfirst.tif", "ZYX", (12, 64, 64)),
        ("c09_ome/leaf_Z3.ome.tif", "ZYX", (6, 48, 48)),
        ("c09_companion/leaf_Z3.ome.tif", "ZYX", (6, 48, 48)),
        ("c09_companion/leaf.companion.ome", "ZYX", (6, 48, 48)),
        ("c14_greek.ome.tif", "ZYX", (8, 48, 48)),
        ("c14_notiff.ome.tif", "ZYX", (8, 48, 48)),
        ("leaf_MMStack_Pos0.ome.tif", "ZYX", (12, 48, 48)),
    ],
)
def test_shape_axes_and_voxel_size_are_those_of_the_readme(
    cases: Path, name: str, axes: str, shape: tuple[int, ...]
) -> None:
    stack = open_stack(cases / name)
    assert (stack.axes, stack.shape) == (axes, shape)
    known = [v for v in stack.voxel_size.zyx_um if v is not None]
    wanted = {3: ZYX_UM, 2: ZYX_UM[1:]}[len(known)]
    assert known == pytest.approx(wanted)
    assert len(known) == (2 if "Z" not in axes or "thumb" in name else 3)


def test_the_two_kinds_of_multi_file_ome_hold_the_same_planes(cases: Path) -> None:
    first = pixels(cases / "c09_ome" / "leaf_Z0.ome.tif")
    np.testing.assert_array_equal(first, pixels(cases / "c09_companion" / "leaf_Z5.ome.tif"))
    assert [p.name for p in images_in(cases / "c09_ome")] == ["leaf_Z0.ome.tif"]
    assert [p.name for p in images_in(cases / "c09_companion")] == ["leaf_Z0.ome.tif"]


def test_greek_mu_is_a_unit_of_positions_and_wavelengths(cases: Path) -> None:
    metadata = open_stack(cases / "c14_greek.ome.tif").metadata
    assert metadata["origin_um"] == (30.0, -2500.0, 1500.0)
    assert (metadata["excitation_nm"], metadata["emission_nm"]) == (488.0, 520.0)


def test_ome_xml_without_a_list_of_planes_is_used_and_said(cases: Path) -> None:
    notes = inspect_image(cases / "c14_notiff.ome.tif").metadata["warnings"]
    assert "list no planes" in notes[0]


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("c17_positions.ome.tif", ("Pos0", "Pos1", "Pos2")),
        ("c17_scenes.ome.tif", ("plant 0", "plant 1", "plant 2")),
        ("c17_zdir/b2r.zarr", ("0", "1")),
        ("c17_zdir/plate.zarr", ("A/1/0",)),
    ],
)
def test_a_file_of_several_images_tells_how_many_and_their_names(
    cases: Path, name: str, names: tuple[str, ...]
) -> None:
    info = inspect_image(cases / name)
    assert info.series == len(names)
    assert info.series_names == (names if len(names) > 1 else ())
    found = {pixels(cases / name, series=i).tobytes() for i in range(len(names))}
    assert len(found) == len(names)
    with pytest.raises(OSError, match=f"series {len(names)} was requested"):
        open_stack(cases / name, series=len(names))


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("c18_t.ome.zarr", 0.5),
        ("c19_t_hr.tif", 7200.0),
        ("c19_t_day.tif", 172800.0),
        ("c19_t_minute.tif", 120.0),
    ],
)
def test_the_time_step_is_in_seconds(cases: Path, name: str, seconds: float) -> None:
    assert open_stack(cases / name).metadata["time_step_s"] == pytest.approx(seconds)


def test_every_image_of_a_mixed_folder_is_found_and_the_rest_named(cases: Path) -> None:
    found = images_in(cases / "c23")
    assert len(found) == 12
    names = {p.name for p in found}
    assert {"d.zarr", "e.ome.zarr", "c.ims", "noext"} <= names
    assert "l.tif.bak" not in names
    for path in found:
        assert inspect_image(path).series >= 1
    ((path, why),) = left_out(cases / "c23").items()
    assert path.name == "l.tif.bak"
    assert why.startswith('".bak" is not the name of an image')


def test_micro_manager_has_the_channel_names_of_its_xml(cases: Path) -> None:
    assert open_stack(cases / "leaf_MMStack_Pos0.ome.tif").channel_names == ("chan0",)
