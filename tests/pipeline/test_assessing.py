"""A result is judged with the PSF and noise of its own run, volume by volume."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from zenhance.errors import RunCancelled, StackError
from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.pipeline.assessing import assess_result, assessment_notes
from zenhance.stack import Stack

VOXEL_UM = (0.5, 0.25, 0.25)
PSF = "sigma_um=0.6,0.3,0.3"
REQUEST = EnhanceRequest(
    psf=PSF,
    device="cpu",
    settings={"variant": "richardson_lucy", "iterations": 15, "stop": "fixed"},
)


def walls(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Thin random walls and their blurred image: 5 grey values a photon, offset 100."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(12, 48, 48)), (2, 4, 4))
    sharp = np.where(np.abs(field) < 0.2 * field.std(), 60.0, 2.0)
    blurred = gaussian_filter(sharp, (1.2, 1.2, 1.2), mode="reflect")
    return (5.0 * rng.poisson(blurred) + 100).astype(np.uint16), (5 * sharp + 100).astype(
        np.float32
    )


def stack(axes: str = "ZYX", seeds: tuple[int, ...] = (0,), **fields: Any) -> Stack:
    data = np.stack([walls(seed)[0] for seed in seeds]) if len(axes) > 3 else walls(seeds[0])[0]
    return Stack.from_array(data, axes, VOXEL_UM, **fields)


@pytest.fixture(scope="module")
def honest() -> tuple[Stack, Stack]:
    raw = stack()
    return raw, enhance(raw, REQUEST).stack


def test_an_honest_result_is_judged_with_the_numbers_of_its_run(
    honest: tuple[Stack, Stack],
) -> None:
    raw, result = honest
    found = assess_result(raw, result, REQUEST)
    assert found.verdict != "red", found.sentences
    assert found.reblur is not None
    assert "sigma_um 0.6 x 0.3 x 0.3 µm (user)" in found.psf
    assert "(estimated, as in the run)" in found.noise
    assert found.z_map is not None
    assert found.z_map.shape == raw.shape
    assert not any("other pixels" in words for words in found.sentences)


def test_what_was_deblurred_plane_by_plane_is_blurred_again_in_the_plane_alone() -> None:
    raw = stack()
    flat = REQUEST.model_copy(
        update={"settings": {"dimensions": 2, "iterations": 15, "stop": "fixed"}}
    )
    result = enhance(raw, flat).stack
    in_plane = assess_result(raw, result, flat)
    along_z_too = assess_result(raw, result, REQUEST)
    assert in_plane.reblur is not None
    assert along_z_too.reblur is not None
    # Blurred along z too, only a PSF much thinner along z fits.
    assert not in_plane.reblur.psf_doubtful
    assert along_z_too.reblur.psf_doubtful
    assert along_z_too.reblur.width_z < 0.7
    assert any("in the plane alone" in words for words in in_plane.sentences)
    assert not any("in the plane alone" in words for words in along_z_too.sentences)


def test_without_a_request_the_one_inside_the_result_is_taken(honest: tuple[Stack, Stack]) -> None:
    raw, result = honest
    assert assess_result(raw, result).psf == assess_result(raw, result, REQUEST).psf
    bare = Stack.from_array(np.asarray(result.data), "ZYX", VOXEL_UM)
    assert "(default)" in assess_result(raw, bare).psf


def test_a_planted_bead_turns_it_red(honest: tuple[Stack, Stack]) -> None:
    raw, result = honest
    pixels = np.asarray(result.data).copy()
    pixels[6, 20:28, 20:28] += 5 * np.ptp(pixels)
    found = assess_result(raw, result.with_data(pixels), REQUEST)
    assert found.verdict == "red"
    assert found.reblur is not None
    assert found.reblur.flagged_share > 1e-3


def test_a_method_that_leaves_the_blur_is_compared_as_it_is() -> None:
    raw = stack()
    same = enhance(raw, method="identity", psf=PSF).stack
    kept = assess_result(raw, same)
    assert kept.reblur is not None
    assert kept.reblur.discrepancy < 0.5
    blurred = assess_result(raw, same, deblurred=True)
    assert blurred.reblur is not None
    assert blurred.reblur.discrepancy > kept.reblur.discrepancy


def test_crop_and_channel_of_the_request_are_applied_to_measurement_and_truth(
    honest: tuple[Stack, Stack],
) -> None:
    raw = stack("CZYX", (5, 0))
    request = REQUEST.model_copy(update={"channel": 1, "crop": ((None, None), (0, 40), (None, 44))})
    result = enhance(raw, request).stack
    truth = Stack.from_array(walls(0)[1], "ZYX", VOXEL_UM)
    found = assess_result(raw, result, request, truth=truth)
    assert found.shape_px == (12, 40, 44)
    assert (
        found.truth["result"].figures.psnr_fit_db > found.truth["measurement"].figures.psnr_fit_db
    )
    assert not any("other pixels" in words for words in found.sentences)


def test_of_several_volumes_the_worst_is_shown_and_all_are_named() -> None:
    raw = stack("CZYX", (0, 1))
    result = enhance(raw, REQUEST).stack
    pixels = np.asarray(result.data).copy()
    pixels[1, 6, 20:28, 20:28] += 5 * np.ptp(pixels)
    found = assess_result(raw, result.with_data(pixels), REQUEST)
    assert (found.verdict, found.channel) == ("red", 1)
    assert found.sentences[-1].startswith(
        "Time point 0, channel 1 is shown, the worst of those judged (time point 0, channel 0: "
    )


def test_of_a_long_series_three_time_points_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    from zenhance.pipeline import assessing

    seen: list[int] = []
    judge = assessing.assess
    monkeypatch.setattr(
        assessing,
        "assess",
        lambda *a, **k: (seen.append(k["t"]), judge(*a, **{**k, "quick": True}))[1],
    )
    raw = stack("TZYX", (0, 1, 2, 3, 4, 5))
    assess_result(raw, raw, EnhanceRequest(method="identity", psf=PSF))
    assert seen == [0, 3, 5]


def test_a_result_of_another_measurement_is_named_as_such(honest: tuple[Stack, Stack]) -> None:
    _, result = honest
    found = assess_result(stack(seeds=(9,), name="other"), result)
    assert found.verdict == "red"
    assert any(
        "The result was made from other pixels than these" in words for words in found.sentences
    )


def test_cancel_is_looked_at_before_each_volume(honest: tuple[Stack, Stack]) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(RunCancelled, match="while its result was assessed"):
        assess_result(*honest, REQUEST, cancel)


def test_stacks_that_do_not_fit_are_refused(honest: tuple[Stack, Stack]) -> None:
    raw, result = honest
    with pytest.raises(StackError, match="does not match the voxels of the measurement"):
        assess_result(raw, result.crop({"Y": slice(0, 30)}))


def test_the_notes_are_plain_json_without_curves(honest: tuple[Stack, Stack]) -> None:
    notes = assessment_notes(assess_result(*honest, REQUEST))
    text = json.dumps(notes, allow_nan=False)
    assert len(text) < 10_000
    assert notes["verdict"] in ("green", "amber", "red")
    assert notes["reblur"]["flagged_share"] >= 0
    assert "half_bit" not in notes["correlation"]["lateral"]
    assert "resolution_seventh_um" in notes["correlation"]["lateral"]
