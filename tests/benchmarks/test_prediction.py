"""Slices predicted: from earlier ones only, and compared with copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.experiments.prediction import (
    PredictionReport,
    PredictionRow,
    measure_prediction,
    predict_slices,
    prediction_table,
)
from benchmarks.machine import Machine
from benchmarks.scenes import Plan
from zenhance.errors import MethodError
from zenhance.methods.dqlr.network import Dqlr

MACHINE = Machine("Some CPU", 2, 2, "", "3.12", "2.13")


def small(window: int = 3, recurrence: str = "both", predicted: int = 2) -> Dqlr:
    torch.manual_seed(0)
    network = Dqlr(window, 8, 4, 1, 2, recurrence, 4, 16, 4, 2, predicted)  # type: ignore[arg-type]
    network.train()(torch.rand(2, 4, 16, 16), 0)
    return network.eval()


def test_no_later_slice_has_a_say() -> None:
    network, stack = small(), torch.rand(6, 16, 16)
    other = stack.clone()
    other[3:] = torch.rand(3, 16, 16)
    before, after = predict_slices(network, stack), predict_slices(network, other)
    torch.testing.assert_close(before[:3], after[:3])
    assert not torch.allclose(before[3:], after[3:])


def test_a_window_of_one_predicts_what_the_network_itself_does() -> None:
    network, stack = small(window=1, recurrence="forward"), torch.rand(5, 16, 16)
    with torch.inference_mode():
        own = network(stack[None], 2).predicted[0]
    torch.testing.assert_close(predict_slices(network, stack)[2], own, atol=1e-5, rtol=1e-4)


def test_a_network_without_recurrence_is_refused() -> None:
    with pytest.raises(MethodError, match="no recurrence that predicts"):
        predict_slices(small(recurrence="none"), torch.rand(3, 16, 16))


def test_every_model_that_predicts_has_its_rows_beside_the_copy() -> None:
    report = measure_prediction((Plan("tiny", "meristem", 78, (6, 32, 32), (0.5, 0.22, 0.22)),))
    titles = [row.title for row in report.rows]
    assert titles[0] == "copy of the measured slice"
    assert "dqlr_stack predicts" in titles
    assert all(
        np.isfinite(row.sharp_db).all() and np.isfinite(row.blurred_db).all() for row in report.rows
    )
    assert all(
        len(row) == len(prediction_table(report).header) for row in prediction_table(report).rows
    )


def test_the_foot_says_whether_a_copy_is_beaten() -> None:
    copy = PredictionRow(
        "copy of the measured slice", ((20.0, 18.0), (21.0, 19.0)), ((20.0, 18.0), (21.0, 19.0))
    )
    model = PredictionRow("m predicts", ((22.0, 18.0), (20.0, 19.0)), ((23.0, 18.0), (20.0, 19.0)))
    foot = prediction_table(PredictionReport((copy, model), (), MACHINE)).foot
    said = (
        "m predicts the next slice, against a copy of the measured one: "
        "sharp +0.50 dB (better on 1 of 2 stacks); "
    )
    assert f"{said}blurred +1.00 dB (better on 1 of 2 stacks)." in foot


def test_the_words_in_use_are_told_for_each_dictionary_and_left_out_without_one() -> None:
    report = measure_prediction((Plan("tiny", "meristem", 79, (4, 32, 32), (0.5, 0.22, 0.22)),))
    assert len(report.words["dqlr_stack"]) == 4
    assert len(report.words["dqlr_paper"]) == 1
    assert all(1 <= n <= 128 for levels in report.words.values() for n in levels)
    assert "dqlr_paper_unquantised" not in report.words
    assert any(
        line.startswith("dqlr_stack: ") and "effectively used" in line
        for line in prediction_table(report).foot
    )
