"""A fit that uses degrees of freedom leaves less than all the noise; the judge counts them."""

from __future__ import annotations

import dataclasses

import pytest

from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.pipeline.assessing import assess_result
from zenhance.simulate.samples import simulate


def test_the_discrepancy_of_a_deconvolution_counts_the_freedom_it_spent() -> None:
    seen = simulate("meristem", seed=3, shape_px=(20, 72, 72), voxel_size_um=(0.5, 0.22, 0.22))
    request = EnhanceRequest(psf="sigma_um={:.4f},{:.4f},{:.4f}".format(*seen.psf_mean.sigma_um))
    result = enhance(seen.measured, request)
    (freedom,) = result.provenance.freedom
    assert 0.0 < freedom < 0.9
    assert freedom == pytest.approx(
        result.provenance.curves["freedom"][result.provenance.notes["iterations"]], abs=1e-4
    )
    judged = assess_result(seen.measured, result.stack, request).reblur
    plain = assess_result(
        seen.measured, result.stack.with_data(result.stack.data, metadata={}), request
    ).reblur
    assert judged is not None
    assert plain is not None
    assert judged.freedom == freedom
    assert plain.freedom == 0.0
    assert judged.discrepancy == pytest.approx(plain.discrepancy / (1 - freedom), rel=1e-9)
    assert abs(judged.discrepancy - 1) < abs(plain.discrepancy - 1)
    assert plain.counting(1.5) is plain
    assert dataclasses.replace(plain, discrepancy=0.8).counting(0.2).discrepancy_grade == "pass"
