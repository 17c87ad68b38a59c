"""A request states all that decides a result, refuses nonsense, and survives as YAML."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zenhance.errors import MethodError, RecipeError, StackError, ZenhanceError
from zenhance.pipeline import EnhanceRequest
from zenhance.provenance import Provenance
from zenhance.stack import Stack


def test_a_request_reads_back_from_yaml_as_it_was_written() -> None:
    request = EnhanceRequest(
        settings={"variant": "wiener"},
        voxel_size_um=(0.5, 0.2, 0.2),
        crop=((0, 5), (None, 64), (3, None)),
        psf="sigma_um=0.5,0.1,0.1",
        seed=7,
    )
    assert EnhanceRequest.from_yaml(request.to_yaml()) == request
    assert EnhanceRequest.from_yaml(EnhanceRequest().to_yaml()) == EnhanceRequest()


def test_the_provenance_of_an_earlier_result_is_a_request() -> None:
    request = EnhanceRequest(seed=5, psf="fwhm_um=1,0.3,0.3")
    record = Provenance(version="1", request=request.model_dump(mode="json"))
    assert EnhanceRequest.from_yaml(record.to_json()) == request


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("methd: identity", 'called "methd"; did you mean "method"'),
        ("qqqq: 1", "choose one of method"),
        ("- 1\n- 2", "not a list of key: value lines"),
        ("{a: [", "not valid YAML"),
        ("seed: -1", "request field seed is -1: it should be greater than or equal to 0"),
        ("device: gpu", "request field device is 'gpu'"),
        ("axes: ZQX", "use letters of TCZYX"),
        ("crop: [[5, 2], [0, 4], [0, 4]]", "crop z5:2 is empty or negative"),
        ("tile_px: [0, 4, 4]", "each number must be at least 1"),
        ("voxel_size_um: [0, 1, 1]", "voxel size in z is 0 µm"),
        ("voxel_size_um: [.nan, 1, 1]", "finite"),
    ],
)
def test_a_wrong_request_is_refused_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        EnhanceRequest.from_yaml(text)
    assert len(str(caught.value)) <= 240


def test_a_wrong_method_or_setting_is_refused_in_one_sentence() -> None:
    with pytest.raises(MethodError, match='did you mean "identity"'):
        EnhanceRequest.from_yaml("method: identiti")
    with pytest.raises(MethodError, match='did you mean "iterations"'):
        EnhanceRequest.from_yaml("settings: {iteratoins: 3}")


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(EnhanceRequest.model_fields)),
        st.one_of(
            st.none(),
            st.integers(),
            st.floats(),
            st.text(max_size=4),
            st.lists(st.integers(), max_size=3),
            st.booleans(),
        ),
        max_size=3,
    )
)
def test_random_requests_never_end_in_anything_but_a_request_or_a_sentence(
    fields: dict[str, object],
) -> None:
    try:
        request = EnhanceRequest(**fields)
        request.parameters()
    except ZenhanceError as error:
        assert "\n" not in str(error)
        assert str(error)
    else:
        assert request.seed >= 0
        assert request.tile_px is None or min(request.tile_px) >= 1


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(EnhanceRequest().parameters().model_dump())),
        st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=4), st.booleans()),
        max_size=3,
    )
)
def test_random_settings_never_end_in_anything_but_settings_or_a_sentence(
    values: dict[str, object],
) -> None:
    try:
        filled = EnhanceRequest(settings=values).parameters().model_dump()
    except ZenhanceError as error:
        assert len(str(error)) <= 240
    else:
        assert all(np.isfinite(v) for v in filled.values() if isinstance(v, float))


def test_axes_voxel_size_channel_and_crop_are_applied_in_that_order() -> None:
    data = np.arange(3 * 2 * 6 * 7).reshape(3, 2, 6, 7)
    stack = Stack.from_array(data, "ZCYX")
    request = EnhanceRequest(
        voxel_size_um=(1.0, 0.5, 0.5), channel=1, crop=((1, 3), (None, None), (2, 5))
    )
    applied = request.apply_to(stack)
    assert applied.axes == "ZYX"
    assert np.array_equal(np.asarray(applied.data), data[1:3, 1, :, 2:5])
    assert applied.voxel_size.zyx_um == (1.0, 0.5, 0.5)
    with pytest.raises(StackError, match="is outside the stack"):
        EnhanceRequest(crop=((0, 9), (None, None), (None, None))).apply_to(stack)


def test_weights_for_a_method_that_has_none_are_refused_and_those_that_have_some_named() -> None:
    with pytest.raises(
        RecipeError,
        match="gaussian_deconvolution uses no trained weights; name the method that these belong "
        "to .*dqlr",
    ):
        EnhanceRequest(weights="dqlr_stack")
    assert EnhanceRequest(method="rdn", weights="anything").weights == "anything"
