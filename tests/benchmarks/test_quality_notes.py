"""The lines below the quality table follow from its figures and say everything once."""

from __future__ import annotations

import math

import pytest

from benchmarks.contenders import Contender
from benchmarks.judging import Figures, Outcome, QualityReport
from benchmarks.machine import Machine
from benchmarks.quality_notes import remarks, verdicts, versus
from benchmarks.scenes import quality_plans
from zenhance.assess.cells import CellReport
from zenhance.assess.reblur_report import ReblurReport
from zenhance.assess.truth import TruthReport
from zenhance.contract import registry

MACHINE = Machine("Some CPU", 2, 2, "", "3.12", "2.13")
CHECK = ReblurReport(
    "pass", *[0.0] * 7, 1, 1.0, 1.0, False, False, 0, 1.0, 0.0, 1.0, "pass", 0, (), *[0.0] * 5
)  # type: ignore[arg-type]
SRCNN, RDN = (registry.load(name).spec.defaults.weights for name in ("srcnn", "rdn"))
ROWS = (
    Contender("truth", "the truth itself"),
    Contender("identity", "measured", "identity", deblurs=False),
    Contender("gaussian_smoothing", "Gaussian smoothing", deblurs=False),
    Contender("rl", "RL", "gaussian_deconvolution"),
    Contender(SRCNN, "SRCNN", "srcnn"),
    Contender("srcnn_other", "SRCNN, other", "srcnn"),
    Contender(RDN, "RDN", "rdn", note="a note of its own"),
    Contender("rdn_x2", "RDN, enlarging", "rdn", scale=2),
)


def outcome(psnr_db: float, note: str = "") -> Outcome:
    quality = TruthReport(psnr_db, 0.5, 1.0, psnr_db, 0.5, 1.0, 10.0, 1.0, 0.0)
    return Outcome(
        Figures(
            quality,
            psnr_db,
            (psnr_db, psnr_db, None),
            0.9,
            CellReport(1, 2, 0.5, 0.6, ()),
            CHECK,
            1.0,
            None,
            note,
        )
    )


def report(
    notes: dict[str, tuple[str, str]] | None = None, **psnr_db: tuple[float, float]
) -> QualityReport:
    """A report on two stacks; every contender reaches 20 dB but for those that are named."""
    outcomes = {}
    for row in ROWS:
        values, said = psnr_db.get(row.name, (20.0, 20.0)), (notes or {}).get(row.name, ("", ""))
        outcomes[row.name] = tuple(outcome(v, s) for v, s in zip(values, said, strict=True))
    return QualityReport(ROWS, quality_plans(quick=True), outcomes, MACHINE)


def test_gains_are_means_with_the_number_of_stacks_that_are_better() -> None:
    assert versus([21.0, 20.0, 25.0], [20.0, 22.0, 20.0]) == "+1.33 dB (better on 2 of 3 stacks)"


def test_each_default_model_is_held_against_the_rivals_and_the_models_before_it() -> None:
    first, second = verdicts(report(**{SRCNN: (22.0, 23.0), RDN: (24.0, 19.0), "rl": (21.0, 22.5)}))
    assert first.startswith(
        "SRCNN, PSNR against measured +2.50 dB (better on 2 of 2 stacks); Gaussian smoothing "
        "+2.50 dB"
    )
    assert "RL +0.75 dB (better on 2 of 2 stacks)" in first
    assert "RDN" not in first
    assert second.endswith(
        "RL -0.25 dB (better on 1 of 2 stacks); SRCNN -1.00 dB (better on 1 of 2 stacks)."
    )


def test_nothing_is_concluded_from_a_model_that_failed() -> None:
    broken = report()
    broken.outcomes[RDN] = (outcome(30.0), Outcome(failure="it broke"))
    assert [line.split(",")[0] for line in verdicts(broken)] == ["SRCNN"]
    assert f"RDN: {'failed, it broke'} (dim); a note of its own." in remarks(broken)


def test_what_every_method_says_is_said_once_with_its_stacks() -> None:
    everybody = {
        row.name: ("too dark", "too dark") for row in ROWS if row.method and row.scale == 1
    }
    lines = remarks(report(everybody | {SRCNN: ("too dark\nsmall; and odd", "too dark")}))
    assert "Every method that got these pixels: too dark." in lines
    assert "SRCNN: small; and odd (default)." in lines
    assert sum("too dark" in line for line in lines) == 1


def test_what_some_say_names_them() -> None:
    lines = remarks(report({"rl": ("", "hazy"), SRCNN: ("", "hazy")}))
    assert lines[0] == "RL; SRCNN: hazy (dim)."


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_figures_that_are_not_finite_are_no_verdict(value: float) -> None:
    assert not any(line.startswith("RDN") for line in verdicts(report(**{RDN: (value, 20.0)})))
