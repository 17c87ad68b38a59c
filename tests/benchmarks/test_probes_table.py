"""The table of probes: sensitivity by strength and depth, false structure, and failures."""

from __future__ import annotations

from argparse import Namespace

from benchmarks.experiments import probes
from benchmarks.experiments.probes import ProbesReport, Row, measure_probes, probes_tables
from benchmarks.machine import Machine
from zenhance.assess.probes import GAP, SPOT, Finding

MACHINE = Machine("Some CPU", 2, 2, "", "3.12", "2.13")


def found(kind, strength, from_um, count):
    return Finding(kind, strength, from_um, from_um + 10, 10, count, 0.0, 1.0, 1.0)


def test_shares_are_shown_by_strength_and_by_depth():
    counts = {(0.6, 0): 5, (0.6, 10): 1, (0.9, 0): 9, (0.9, 10): 4, (1.5, 0): 10, (1.5, 10): 8}
    gaps = [found(GAP, width, depth, count) for (width, depth), count in counts.items()]
    row = Row("walls", "some", (found(SPOT, 0.15, 0, 7), *gaps), 0.0, 1234.5, 0.31)
    failed = Row("walls", "other", failure="it needs more planes")
    table = probes_tables(ProbesReport((row, failed), MACHINE))["probes"]
    assert table.rows[0] == (
        "walls: some", "70", "–", "30 · 65 · 90", "90 · 40", "0", "1.23e+03", "+0.31",
    )  # fmt: skip
    assert table.rows[1][-1] == "it needs more planes"
    assert set(probes.probes_pictures(ProbesReport((row, failed), MACHINE))) == {"probes.png"}


def test_a_method_is_probed_and_one_that_fails_keeps_its_row(tmp_path):
    options = Namespace(quick=True, methods=("identity", "unheard_of"), data=tmp_path)
    report = measure_probes(options, lambda *_: None)
    assert [row.method for row in report.rows] == ["identity", "unheard_of"]
    assert report.rows[0].false_in_noise == 0.0
    assert report.rows[0].findings
    assert "unheard_of" in report.rows[1].failure
