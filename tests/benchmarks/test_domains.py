"""The cross-domain table.

RMSE as it is defined, every training a row, and sentences that follow from the figures.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import runner
from benchmarks.experiments.domains import (
    DomainReport,
    DomainScore,
    domain_contenders,
    domains_table,
    measure_domains,
)
from benchmarks.machine import Machine
from benchmarks.scenes import Plan, domain_plans
from zenhance.assess.truth import TruthReport
from zenhance.models.catalogue import find_weights

PLANS = {
    "meristem": (Plan("m", "meristem", 2, (8, 24, 24), (0.5, 0.22, 0.22)),),
    "filaments": (
        Plan("f", "filaments", 2, (1, 96, 96), (0.1, 0.025, 0.025), {"preset": "filaments_set1"}),
    ),
}
MACHINE = Machine("Some CPU", 2, 2, "", "3.12", "2.13")


def score(psnr_db: float) -> DomainScore:
    return DomainScore(TruthReport(psnr_db, 0.5, 1.0, psnr_db, 0.5, 1.0, 10.0, 1.0, 0.0), 100.0)


def made_up(**psnr_db: tuple[float, float]) -> DomainReport:
    """A report in which every network reaches 20 dB but for what is named ``network_training=(on
    meristem, on filaments)``."""
    contenders = domain_contenders()
    scores = {}
    for c in contenders:
        first, second = psnr_db.get(c.name, (20.0, 20.0))
        scores[c.name] = {
            "meristem": (score(first), score(first)),
            "filaments": (score(second), score(second)),
            "structures": (score(first),),
        }
    return DomainReport(contenders, domain_plans(quick=True), scores, MACHINE)


@pytest.fixture(scope="module")
def identity_only() -> DomainReport:
    rows = domain_contenders()
    return measure_domains((rows[0], replace(rows[1], weights="nowhere_at_all")), PLANS)


def test_rows_are_the_identity_and_three_networks_with_three_trainings() -> None:
    trainings = ("meristem", "filaments", "meristem_filaments")
    found = domain_contenders()
    assert all(find_weights(c.method or "", c.weights).is_file() for c in found[1:])
    assert [c.weights and Path(c.weights).stem for c in found if c.method != "diffusion"] == [
        None,
        *(f"{net}_{data}" for net in ("srcnn", "rdn") for data in trainings),
    ]
    walks = [c for c in found if c.method == "diffusion"]
    for data in trainings:
        assert [c.settings for c in walks if Path(str(c.weights)).stem == f"diffusion_{data}"] == [
            *({"steps": n} for n in (1, 5, 20, 100)),
            {"steps": 5, "data_consistency": 0.0},
        ]
    assert len({c.name for c in found}) == len(found) == 22


def test_rmse_is_per_pixel_and_the_sum_grows_with_the_pixels(identity_only: DomainReport) -> None:
    for domain, (plan,) in PLANS.items():
        (found,) = identity_only.scores["identity"][domain]
        scene = plan.make()
        error = scene.measured.read().astype(np.float64) - scene.truth
        low, high = np.percentile(scene.truth, [0.1, 99.9])
        assert found.quality is not None
        assert found.quality.rmse == pytest.approx(math.sqrt(np.mean(error**2)), rel=1e-5)
        assert found.sum_rmse == pytest.approx(
            math.sqrt(np.sum(error**2)) * 255 / (high - low), rel=1e-5
        )


def test_missing_weights_are_shown_and_nothing_is_concluded(identity_only: DomainReport) -> None:
    table = domains_table(identity_only)
    rows = {row[0]: row for row in table.rows}
    assert rows["SRCNN on meristem"][1] == "failed"
    assert any("there are no weights" in line for line in table.foot)
    assert all(len(row) == len(table.header) == 11 for row in table.rows)
    assert not any("trained on them" in line for line in table.foot)


def test_who_is_better_at_home_and_away_is_said_in_words() -> None:
    table = domains_table(made_up(rdn_meristem=(21.5, 18.0), srcnn_meristem=(20.5, 19.0)))
    meristem, filaments, third = (line for line in table.foot if line.startswith("On "))
    assert "both trained on them, RDN against SRCNN +1.00 dB (better on 2 of 2 stacks)" in meristem
    assert (
        "RDN trained on meristem against doing nothing -2.00 dB (better on 0 of 2 stacks)"
        in filaments
    )
    assert "SRCNN trained on filaments against doing nothing +0.00 dB" in meristem
    assert "diffusion, N = 5, against RDN -1.50 dB" in meristem
    assert "RDN trained on meristem and filaments against doing nothing +0.00 dB" in third
    assert "trained on them" not in third


def test_narrow_it_keeps_the_rmse_of_both_domains() -> None:
    assert domains_table(made_up()).narrow().header == (
        "trained",
        "meristem: RMSE %",
        "filaments: RMSE %",
        "structures: RMSE %",
    )


def test_the_command_writes_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "benchmark.md"
    page.write_text("<!-- begin domains -->\n<!-- end domains -->\n", encoding="utf-8")
    monkeypatch.setattr(runner, "DOCS", tmp_path)
    monkeypatch.setattr(
        "benchmarks.experiments.domains.measure_domains", lambda *_, **__: made_up()
    )
    files = runner.run("domains", "--out", tmp_path, "--write-docs")
    assert {f.name for f in files} == {"domains.json", "benchmark.md"}
    assert "| RDN on both |" in page.read_text(encoding="utf-8")
    assert (
        json.loads((tmp_path / "domains.json").read_text(encoding="utf-8"))["scores"]["identity"][
            "meristem"
        ][0]["sum_rmse"]
        == 100.0
    )
    assert "none (identity)" in capsys.readouterr().out
