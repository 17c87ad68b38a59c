"""A profile keeps its numbers, refuses impossible ones, and comes back from a file unchanged."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from zenhance.errors import MethodError
from zenhance.physics.profile import DepthCurve, MicroscopeProfile, Quantity, load_profile


def curve(depths: tuple[float, ...], values: tuple[float, ...]) -> DepthCurve:
    count = len(depths)
    return DepthCurve(
        depth_um=depths, values=values, low=values, high=values, origins=("user",) * count
    )


def profile(**changes: object) -> MicroscopeProfile:
    q = Quantity.given
    numbers = {
        "voxel_size_um": (1.0, 0.2, 0.2),
        "gain": Quantity(value=2.0, low=1.8, high=2.2, origin="measured"),
        "offset": q(100.0, "file"),
        "read_noise": q(2.0, "default"),
        "background": q(101.0),
        "attenuation_um": q(20.0),
        "bleached_per_plane": q(0.0),
        "brightness": curve((0.0, 60.0), (1.0, 0.05)),
        "haze": curve((0.0, 60.0), (0.0, 5.0)),
        "sigma_z_um": curve((0.0, 60.0), (0.6, 1.8)),
        "sigma_yx_um": curve((0.0, 60.0), (0.2, 0.5)),
    }
    return MicroscopeProfile.model_validate({**numbers, **changes})


@pytest.mark.parametrize("ending", ["json", "yaml", "yml"])
def test_a_saved_profile_comes_back_bit_for_bit(tmp_path: Path, ending: str) -> None:
    before = profile(attenuation_um=Quantity.given(0.1 + 0.2), doubts=("σ could not be measured",))
    before.save(tmp_path / f"p.{ending}")
    after = load_profile(tmp_path / f"p.{ending}")
    assert after == before
    assert after.to_json() == before.to_json()


def test_widths_are_linear_between_knots_and_constant_beyond() -> None:
    p = profile()
    assert p.sigma_at_um(30.0) == pytest.approx((1.2, 0.35, 0.35))
    assert p.sigma_at_um(90.0) == pytest.approx((1.8, 0.5, 0.5))
    assert p.psf_at(0.0).sigma_um == pytest.approx((0.6, 0.2, 0.2))
    assert p.brightness.at(np.array([[0.0, 60.0]])) == pytest.approx(np.array([[1.0, 0.05]]))


def test_a_profile_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        profile().name = "other"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gain": {"value": -1, "low": -1, "high": -1, "origin": "user"}}, "gain is -1"),
        ({"gain": {"value": 3, "low": 1, "high": 2, "origin": "user"}}, "misses 3"),
        ({"sigma_z_um": curve((0.0,), (200.0,)).model_dump()}, "sigma_z_um is"),
        ({"surprise": 1}, "surprise"),
        ({"voxel_size_um": [1.0, 0.0, 0.2]}, "voxel_size_um"),
    ],
)
def test_a_file_with_an_impossible_number_is_refused_with_its_name(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    data = {**profile().model_dump(mode="json"), **changes}
    (tmp_path / "p.json").write_text(json.dumps(data))
    with pytest.raises(MethodError, match=message):
        load_profile(tmp_path / "p.json")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "{}", "must end in .json"),
        ("p.json", "{", "not valid JSON"),
        ("p.yaml", "a: [", "not valid YAML"),
        ("p.json", "[]", "cannot be used"),
        ("p.json", "[" * 10**5, "not valid JSON"),
        ("p.yaml", "a: &a [1]\nb: [*a, *a]", "alias"),
        ("p.yaml", "[" * 1000 + "]" * 1000, "nested"),
        ("p.yaml", f"gain: {'9' * 5000}", "5000 digits"),
        ("p.yaml", "voxel_size_um: 2020-01-01", "cannot be used"),
    ],
)
def test_what_is_not_a_profile_is_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(MethodError, match=message):
        load_profile(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="cannot be read"):
        load_profile(tmp_path / "none.json")


def test_depths_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(ValidationError, match="do not ascend"):
        curve((0.0, 5.0, 5.0), (1.0, 1.0, 1.0))


def test_each_number_says_where_it_comes_from() -> None:
    lines = profile(doubts=("the z step is doubtful",)).describe()
    assert lines[0] == "gain 2 grey values per photon (1.8 to 2.2, measured)"
    assert lines[1] == "offset 100 grey values (file)"
    assert any("σ_yx 0.5 µm (user)" in line for line in lines)
    assert lines[-1] == "the z step is doubtful"
