"""Real files open with the listed shape, axes, type, range and voxel size, or say why not."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from zenhance.errors import ReadError
from zenhance.io import inspect_image, open_stack

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ROWS = (
    list(csv.DictReader((DATA / "MANIFEST.csv").read_text(encoding="utf-8").splitlines()))
    if (DATA / "MANIFEST.csv").is_file()
    else []
)

# Files that the list calls broken, or that name no axes, and what is said about them.
SENTENCES = {
    "crash_0e16d3bf.tif": "reach beyond the end of the file",
    "oom_225817ca.tif": "cut short",
    "inf_loop_lzw.tif": "cut short",
    "truncated_imagej_stack.tif": "cut short",
    "truncated_ome.ome.tiff": "cut short",
    "empty.tif": "is empty",
    "kernels_levin09_8.mat": "MATLAB files hold variables",
    "kernels_12.mat": "MATLAB files hold variables",
}
ASKED = "could be slices, channels or times; name the axes"
# Where the file says more than the list: MetaMorph's UIC tags, DeltaVision's header, Leica's axes.
VOXELS = {
    "metamorph.stk": (10.0, 3.6260623, 3.6260623),
    "deltavision_toxo_c2_z17.dv": (0.3, 0.13262, 0.13262),
    "legacy_zeiss_lsm410_plane_tifffile_crash.tif": (None, 0.396825, 0.396825),
    "leica_xz_2channel.lif": (0.140279, None, 0.14028),
    "lls_imagej_TZCYX_501z.tif": (None, None, None),
    "hela_imagej_composite_16bit_um.tif": (None, 0.0514931, 0.0514931),
}
SHAPES = {
    "metamorph.stk": ("ZYX", (5, 64, 64)),
    "leica_xz_2channel.lif": ("TCZYX", (20, 2, 128, 1, 128)),
}


def expected_layout(row: dict[str, str]) -> tuple[str, tuple[int, ...]]:
    """Return the listed axes and shape in the order TCZYX; samples are channels."""
    name = Path(row["file"]).name
    if name in SHAPES:
        return SHAPES[name]
    shape = tuple(int(n) for n in row["shape"].split("x"))
    axes = (row["axes"] or "ZYX"[-len(shape) :]).replace("S", "C")
    order = sorted(range(len(axes)), key=lambda i: "TCZYX".index(axes[i]))
    return "".join(axes[i] for i in order), tuple(shape[i] for i in order)


def expected_voxel(row: dict[str, str]) -> tuple[float | None, ...]:
    name = Path(row["file"]).name
    if name in VOXELS:
        return VOXELS[name]
    found = re.match(r"([\d.]+)(?: x ([\d.]+))?(?: x ([\d.]+))? um", row["voxel"])
    numbers = [float(g) for g in found.groups() if g] if found else []
    return tuple([None] * (3 - len(numbers)) + numbers)


@pytest.fixture(params=ROWS, ids=[Path(r["file"]).name for r in ROWS])
def row(request: pytest.FixtureRequest, shared_data: Path) -> dict[str, str]:
    return request.param  # type: ignore[no-any-return]


def test_each_listed_file_opens_as_listed_or_says_why_not(
    row: dict[str, str], shared_data: Path
) -> None:
    path = shared_data / row["file"]
    start = time.perf_counter()
    if path.name in SENTENCES:
        with pytest.raises(ReadError, match=SENTENCES[path.name]) as caught:
            open_stack(path)
        assert str(path) in str(caught.value)
        assert len(caught.value.reason) <= 180
        return
    axes, shape = expected_layout(row)
    info = inspect_image(path)
    assert info.shape == shape
    if "?" in info.axes and min(shape[:-2]) <= 4:
        with pytest.raises(ReadError, match=ASKED):
            open_stack(path)
        stack = open_stack(path, axes=axes)
    else:
        stack = open_stack(path)
    pixels = np.asarray(stack.data[...])
    assert time.perf_counter() - start < 5.0
    assert (stack.axes, stack.shape, pixels.shape) == (axes, shape, shape)
    assert stack.dtype == np.dtype(
        row["dtype"].split(" ")[1] if row["dtype"].startswith("raw") else row["dtype"]
    )
    for found, meant in zip(stack.voxel_size.zyx_um, expected_voxel(row), strict=True):
        assert (found is None) == (meant is None)
        assert found is None or found == pytest.approx(meant, rel=1e-5)
    if row["min"] and path.suffix != ".stk":
        lowest, highest = (
            float(row[k] == "True") if row[k] in ("True", "False") else float(row[k])
            for k in ("min", "max")
        )
        assert float(pixels.min()) == pytest.approx(lowest, rel=1e-6, abs=1e-30)
        assert float(pixels.max()) == pytest.approx(highest, rel=1e-6)


def test_no_listed_file_takes_more_than_a_gigabyte(shared_data: Path) -> None:
    code = (
        "import resource, sys, numpy as np\n"
        "from zenhance.io import open_stack\n"
        "from zenhance.errors import ReadError\n"
        "import tifffile, zarr, h5py, liffile, nd2, oiffile, imagecodecs, PIL.Image\n"
        "scale = 1 if sys.platform == 'darwin' else 1024\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        np.asarray(open_stack(path).data[...])\n"
        "    except ReadError:\n"
        "        pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale - before)\n"
    )
    if sys.platform == "win32":
        pytest.skip("Windows has no resource module")
    run = subprocess.run(
        [sys.executable, "-c", code, *(str(shared_data / r["file"]) for r in ROWS)],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    assert int(run.stdout) < 2**30


def test_the_first_stack_opens_without_reading_its_pixels(shared_data: Path) -> None:
    info = inspect_image(shared_data / "plant_tissue" / "p60_floral_meristem_membrane_raw.tif")
    assert (info.format, info.axes, info.shape, str(info.dtype)) == (
        "ImageJ TIFF",
        "ZYX",
        (59, 460, 460),
        "uint8",
    )
    assert info.decoded_bytes == 59 * 460 * 460
    assert info.voxel_size.zyx_um == pytest.approx((1.0, 0.200319, 0.200319))
    assert info.series == 1


@pytest.mark.parametrize(
    ("name", "light"),
    [
        ("zeiss_single_plane.lsm", {"na": 1.3, "excitation_nm": 561.0, "modality": "confocal"}),
        (
            "ndev_T3_C4_Z3_zstd.czi",
            {
                "na": 0.35,
                "excitation_nm": [653.0, 577.0, 493.0, 353.0],
                "emission_nm": [668.0, 603.0, 517.0, 465.0],
            },
        ),
        (
            "leica_xz_2channel.lif",
            {
                "na": 1.3,
                "refractive_index": 1.46,
                "pinhole_au": pytest.approx(0.804819, rel=1e-5),
                "modality": "confocal",
            },
        ),
        (
            "nikon_cluster_T3_Z10_C2.nd2",
            {
                "na": 0.95,
                "excitation_nm": [488.0, 561.0],
                "emission_nm": [525.0, 700.0],
                "modality": "confocal",
            },
        ),
        ("aics_um_lzw.ome.tiff", {"na": 0.8, "refractive_index": 1.000293, "modality": "confocal"}),
        ("olympus_3channel.oib", {"excitation_nm": [488.0, 543.0, 543.0], "modality": "confocal"}),
        ("deltavision_toxo_c2_z17.dv", {"emission_nm": [525.0, 632.0], "modality": "widefield"}),
    ],
)
def test_the_light_path_is_read_from_the_vendors_metadata(
    shared_data: Path, name: str, light: dict[str, object]
) -> None:
    metadata = open_stack(shared_data / "formats" / name).metadata
    assert {k: metadata.get(k) for k in light} == light


def test_a_cut_lif_file_is_told_at_once(shared_data: Path, tmp_path: Path) -> None:
    whole = (shared_data / "formats" / "leica_xz_2channel.lif").read_bytes()
    cut = tmp_path / "truncated.lif"
    for size in (12, 1000, 60_000):
        cut.write_bytes(whole[:size])
        with pytest.raises(ReadError, match="it ends within its header; copy it again"):
            open_stack(cut)
    cut.write_bytes(whole[:100_000])
    with pytest.raises(ReadError, match='it is cut short: "xzt" ends at'):
        open_stack(cut)
    # The first image is all there, the others are not.
    cut.write_bytes(whole[:-1000])
    (said,) = open_stack(cut).metadata["warnings"]
    assert said.startswith("the file is cut short: of its images")
    with pytest.raises(ReadError, match="it is cut short"):
        open_stack(cut, series=2)
    assert "warnings" not in open_stack(shared_data / "formats" / "leica_xz_2channel.lif").metadata


def test_vendor_pixels_equal_those_of_the_vendors_reader_library(shared_data: Path) -> None:
    import liffile
    import nd2
    import oiffile

    formats = shared_data / "formats"
    with nd2.ND2File(str(formats / "nikon_cluster_T3_Z10_C2.nd2")) as file:
        np.testing.assert_array_equal(
            np.asarray(open_stack(file.path).data), file.asarray().transpose(0, 2, 1, 3, 4)
        )
    with liffile.LifFile(str(formats / "leica_xz_2channel.lif")) as file:
        for series, dims in enumerate(["TCZX", "YCZX", "CZX"]):
            stack = open_stack(formats / "leica_xz_2channel.lif", series=series)
            assert stack.axes == ("CZYX" if series else "TCZYX")
            found = np.asarray(stack.data)
            meant = file.images[series].asarray()
            assert "".join(file.images[series].dims) == dims
            np.testing.assert_array_equal(
                found.transpose(2, 0, 1, 3) if series == 1 else found.squeeze(), meant
            )
    with oiffile.OifFile(str(formats / "olympus_3channel.oib")) as file:
        np.testing.assert_array_equal(
            np.asarray(open_stack(formats / "olympus_3channel.oib").data), file.asarray()
        )


def test_a_czi_plane_decodes_to_the_pixels_that_zstd_and_its_byte_order_give(
    shared_data: Path,
) -> None:
    """The first sub-block, decoded by hand: header byte count, zstd, low and high bytes apart."""
    import imagecodecs

    path = shared_data / "formats" / "ndev_T3_C4_Z3_zstd.czi"
    raw = path.read_bytes()
    at = raw.index(b"ZISRAWSUBBLOCK\0\0")
    metadata_bytes, _, data_bytes = np.frombuffer(raw[at + 32 : at + 48], "<i4,<i4,<i8")[0]
    places = np.frombuffer(raw[at + 48 + 32 :], "S4,<i4,<i4,<f4,<i4", 8)
    where = {p[0].decode(): int(p[1]) for p in places}
    data = raw[at + 32 + 256 + int(metadata_bytes) :][: int(data_bytes)]
    plain = np.frombuffer(imagecodecs.zstd_decode(data[data[0] :]), np.uint8)
    split = data[0] > 1 and data[2] & 1
    plane = (
        plain[:1024].astype(np.uint16) + 256 * plain[1024:].astype(np.uint16)
        if split
        else plain.view("<u2")
    )
    stack = open_stack(path)
    np.testing.assert_array_equal(
        stack.read(where["T"], where["C"])[where["Z"]], plane.reshape(32, 32)
    )


def test_an_image_beyond_the_last_series_is_refused(shared_data: Path) -> None:
    for name in (
        "leica_xz_2channel.lif",
        "nikon_cluster_T3_Z10_C2.nd2",
        "olympus_3channel.oib",
        "ndev_T3_C4_Z3_zstd.czi",
        "bit12_packed.tif",
    ):
        with pytest.raises(ReadError, match="series 9 was requested"):
            open_stack(shared_data / "formats" / name, series=9)


def test_a_vendor_file_without_its_library_names_the_extra(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nd2", None)
    with pytest.raises(ReadError, match=r'pip install "zenhance\[io\]"'):
        open_stack(shared_data / "formats" / "nikon_cluster_T3_Z10_C2.nd2")
