"""Settings under their old names: requests, saved settings and records keep working."""

from __future__ import annotations

import pytest

from zenhance.contract import registry
from zenhance.contract.settings import RENAMED, current_names
from zenhance.errors import MethodError
from zenhance.pipeline import EnhanceRequest
from zenhance.provenance import Provenance

OLD = {"agreement": {"dqlr": 0.5, "diffusion": 0.25, "divblurring": 3}}
OLD |= {"spread": {"divblurring": 1.5}, "turned": {"divblurring": True}}
CASES = [(old, method, value) for old in RENAMED for method, value in OLD[old].items()]


@pytest.mark.parametrize(("old", "method", "value"), CASES)
def test_an_old_name_means_the_new_setting(old: str, method: str, value: object) -> None:
    request = EnhanceRequest(method=method, settings={old: value})
    assert getattr(request.parameters(), RENAMED[old]) == value
    kept = Provenance(version="0.1.0", request=request.model_dump(mode="json"))
    again = EnhanceRequest(**Provenance.from_json(kept.to_json()).request)
    assert again.parameters() == request.parameters()


@pytest.mark.parametrize(("old", "method", "value"), CASES)
def test_both_names_at_once_are_refused(old: str, method: str, value: object) -> None:
    both = {old: value, RENAMED[old]: value}
    with pytest.raises(MethodError, match=f'"{old}"'):
        EnhanceRequest(method=method, settings=both).parameters()


def test_every_new_name_is_a_setting_and_no_old_one_is() -> None:
    fields = {f for n in registry.names() for f in registry.load(n).spec.parameters.model_fields}
    assert set(RENAMED.values()) <= fields
    assert not set(RENAMED) & fields


def test_other_settings_pass_unchanged() -> None:
    model = registry.load("identity").spec.parameters
    assert current_names(model, {"agreement": 1, "x": 2}) == {"agreement": 1, "x": 2}
