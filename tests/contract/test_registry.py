"""Methods are found by name, without importing anything before it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from zenhance.contract import registry
from zenhance.contract.settings import validate
from zenhance.errors import MethodError
from zenhance.pipeline import EnhanceRequest


def test_each_registered_method_loads_and_carries_its_own_name() -> None:
    for name in registry.names():
        assert registry.load(name).spec.name == name


def test_lists_of_methods_begin_with_the_default_one_and_end_with_the_identity() -> None:
    ours = registry.names()
    assert ours[0] == EnhanceRequest().method
    assert ours[-1] == "identity"


def test_an_unknown_method_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(MethodError, match='did you mean "gaussian_deconvolution"'):
        registry.load("gaussian_deconvolutoin")
    with pytest.raises(MethodError, match="choose one of gaussian_deconvolution"):
        registry.load("zzz")


def test_loading_every_specification_imports_neither_torch_nor_napari() -> None:
    code = (
        "import sys; from zenhance.contract import registry;"
        "[registry.load(n).spec for n in registry.names()];"
        "heavy = ('torch', 'napari', 'dask', 'zarr', 'tifffile');"
        "sys.exit(', '.join(m for m in heavy if m in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_each_setting_has_a_default_a_help_line_and_a_unit_where_it_is_a_number() -> None:
    for name in registry.names():
        for key, field in registry.load(name).spec.parameters.model_fields.items():
            assert not field.is_required(), f"{name}.{key} has no default"
            assert field.description, f"{name}.{key} has no help line"
            assert "\n" not in field.description


def test_a_wrong_setting_is_refused_in_one_sentence_with_the_nearest_name() -> None:
    model = registry.load("gaussian_deconvolution").spec.parameters
    with pytest.raises(MethodError, match='called "iteration"; did you mean "iterations"'):
        validate(model, {"iteration": 3}, "setting of gaussian_deconvolution")
    with pytest.raises(MethodError, match="iterations is -1: it should be greater than"):
        validate(model, {"iterations": -1}, "setting of gaussian_deconvolution")
