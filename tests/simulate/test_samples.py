"""Simulated stacks on disk, and those that ship."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from zenhance.errors import OutputExistsError, StackError
from zenhance.io import open_sample, open_sample_truth, open_stack, sample_names
from zenhance.io.samples import sample_path
from zenhance.physics.psf import parse_psf
from zenhance.provenance import hash_array
from zenhance.simulate.presets import microscope
from zenhance.simulate.samples import SAMPLES, simulate, simulate_to_folder, write_samples

SMALL = {"shape_px": (8, 32, 32), "voxel_size_um": (1.0, 0.5, 0.5)}


def test_a_folder_gets_measurement_truth_labels_and_record(tmp_path: Path) -> None:
    files = simulate_to_folder("meristem", tmp_path, seed=5, **SMALL)
    assert [f.name for f in files] == [
        "meristem_5.ome.tif", "meristem_5_truth.ome.tif", "meristem_5_labels.ome.tif",
        "meristem_5.json"
    ]  # fmt: skip
    measured, truth, labels = (open_stack(f) for f in files[:3])
    assert measured.shape == truth.shape == labels.shape == (8, 32, 32)
    assert measured.voxel_size.zyx_um == pytest.approx((1.0, 0.5, 0.5))
    assert measured.channel_names == ("membrane",)
    assert measured.metadata["emission_nm"] == 615.0
    record = json.loads(files[3].read_text(encoding="utf-8"))
    assert record["sha256"]["meristem_5"] == hash_array(measured.read())
    assert parse_psf(record["psf"], 3).kind == "gaussian"


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    first = simulate_to_folder("meristem", tmp_path / "a", seed=5, **SMALL)
    second = simulate_to_folder("meristem", tmp_path / "b", seed=5, **SMALL)
    other = simulate_to_folder("meristem", tmp_path / "c", seed=6, **SMALL)
    assert [f.read_bytes() for f in first] == [f.read_bytes() for f in second]
    assert first[0].read_bytes() != other[0].read_bytes()


def test_existing_files_are_not_overwritten_unasked(tmp_path: Path) -> None:
    record = tmp_path / "mine.json"
    record.write_text("precious", encoding="utf-8")
    with pytest.raises(
        OutputExistsError, match="exists; choose another folder or name, or allow overwriting"
    ):
        simulate_to_folder("meristem", tmp_path, name="mine", **SMALL)
    assert record.read_text(encoding="utf-8") == "precious"
    assert [f.name for f in tmp_path.iterdir()] == ["mine.json"]


def test_a_simulated_stack_in_memory_has_labels_without_gaps() -> None:
    seen = simulate("meristem", seed=1, **SMALL)
    labels = seen.labels.read()
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert seen.depth_um.read().max() > 0


def test_several_stacks_with_settings_repeat_byte_for_byte(tmp_path: Path) -> None:
    words = {
        "seed": 3, "count": 2, "shape_px": (1, 40, 48), "voxel_size_um": (0.1, 0.025, 0.025),
        "settings": {"width_um": 0.05},
        "microscope": {"preset": "filaments_set2", "photons": 500.0}, "blurred": True,
    }  # fmt: skip
    first = simulate_to_folder("filaments", tmp_path / "a", **words)
    second = simulate_to_folder("filaments", tmp_path / "b", **words)
    assert [f.name for f in first[:5]] == [
        "filaments_3.ome.tif", "filaments_3_truth.ome.tif", "filaments_3_labels.ome.tif",
        "filaments_3_blurred.ome.tif", "filaments_3.json"
    ]  # fmt: skip
    assert len(first) == 10
    assert [f.read_bytes() for f in first] == [f.read_bytes() for f in second]
    record = json.loads(first[9].read_text(encoding="utf-8"))
    assert (
        record["seed"],
        record["specimen_settings"]["width_um"],
        record["microscope_settings"]["photons"],
    ) == (4, 0.05, 500.0)
    assert record["microscope_settings"]["read_noise"] == 10.0
    assert record["sha256"]["filaments_4_blurred"] == hash_array(open_stack(first[8]).read())


def test_what_a_chart_knows_of_itself_is_in_its_record(tmp_path: Path) -> None:
    shape = {"shape_px": (1, 80, 120), "voxel_size_um": (0.3, 0.05, 0.05)}
    files = simulate_to_folder("charts", tmp_path, settings={"steps": 2}, microscope="dim", **shape)
    record = json.loads(files[-1].read_text(encoding="utf-8"))
    assert [p["distance_um"] for p in record["facts"]["pairs"]] == [1.5, 0.15]


def test_one_file_in_the_way_of_the_second_stack_stops_both(tmp_path: Path) -> None:
    (tmp_path / "empty_1_labels.ome.tif").write_bytes(b"mine")
    with pytest.raises(OutputExistsError, match="empty_1_labels.ome.tif"):
        simulate_to_folder("empty", tmp_path, count=2, **SMALL)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            {"settings": {"with_um": 1}},
            'there is no setting of filaments called "with_um"; did you mean "width_um"',
        ),
        (
            {"settings": {"width_um": -1}},
            "setting of filaments width_um is -1: it should be greater than 0",
        ),
        (
            {"microscope": {"gian": 2}},
            'there is no microscope setting called "gian"; did you mean "gain"',
        ),
        ({"microscope": {"gain": 0}}, "microscope setting gain is 0: it should be greater than 0"),
        ({"microscope": "goood"}, 'there is no microscope "goood"; did you mean "good"'),
        ({"count": 0}, "the number of stacks is 0, allowed is 1 or more"),
    ],
)
def test_what_cannot_be_simulated_is_refused_before_anything_is_written(
    tmp_path: Path, words: dict[str, object], sentence: str
) -> None:
    with pytest.raises(StackError, match=re.escape(sentence)):
        simulate_to_folder("filaments", tmp_path / "out", **words, **SMALL)
    assert not (tmp_path / "out").exists()


def test_a_truth_brighter_than_the_pixel_type_is_not_clipped(tmp_path: Path) -> None:
    settings = {"count": 1, "diameter_um": 0.0, "on_voxels": True, "dye_voxels": 100.0}
    files = simulate_to_folder("beads", tmp_path, settings=settings, microscope="typical", **SMALL)
    truth = open_stack(files[1]).read()
    assert truth.dtype == np.float32
    scope = microscope("typical")
    assert truth.max() == pytest.approx(scope.offset + scope.gain * scope.photons * 100, rel=1e-4)


def test_the_bundled_measurements_are_those_of_their_records() -> None:
    sample = SAMPLES["meristem_deep"]
    record = json.loads(
        sample_path("meristem_deep").with_name("meristem_deep.json").read_text(encoding="utf-8")
    )
    assert (
        sample.microscope.model_dump(mode="json").items() >= record["microscope_settings"].items()
    )


def test_an_unknown_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match='there is no sample "moon"; choose one of meristem_deep'):
        write_samples(tmp_path, names=["moon"])


def test_bundled_samples_are_small_and_complete() -> None:
    assert set(SAMPLES) <= set(sample_names())
    for name in SAMPLES:
        assert sample_path(name).stat().st_size < 3e6
        assert set(open_sample_truth(name)) == {"truth", "labels"}
    assert sum(f.stat().st_size for f in sample_path("meristem_deep").parent.iterdir()) < 8e6


def test_bundled_samples_are_what_their_seeds_give(tmp_path: Path) -> None:
    name = "meristem_two_channel"
    truth, labels, measured = (open_stack(f).data[...] for f in _made_again(tmp_path, name))
    known = open_sample_truth(name)
    # Another processor may round the last bit of a cosine otherwise: a voxel on a border may change
    # sides.
    assert (labels == known["labels"].data[...]).mean() > 0.999
    assert (np.abs(truth.astype(int) - known["truth"].data[...].astype(int)) <= 2).mean() > 0.999
    assert measured.mean() == pytest.approx(open_sample(name).data[...].mean(), rel=0.01)


def _made_again(folder: Path, name: str) -> tuple[Path, Path, Path]:
    measured, truth, labels, _ = write_samples(folder, names=[name])
    return truth, labels, measured


def test_the_bundled_series_bleaches_and_drifts() -> None:
    stack, labels = (
        open_sample("meristem_two_channel"),
        open_sample_truth("meristem_two_channel")["labels"].data[...],
    )
    assert stack.axes == "TCZYX"
    assert stack.channel_names == ("membrane", "nuclei")
    signal = stack.data[...].astype(np.float64).mean(axis=(1, 2, 3, 4)) - 100
    assert signal[1] / signal[0] == pytest.approx(0.8, abs=0.06)
    # The stage moves by one row and two columns a frame; what is above and below stays.
    assert (labels[1][:, :-1, :-2] == labels[0][:, 1:, 2:]).mean() > 0.98
