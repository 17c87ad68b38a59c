"""Learning from the stack first: within its time, cancelled without a trace, recorded."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny_model import ARCHITECTURE, MINUTES, NUMBERS, PSF, small_stack, tiny_model, walls
from zenhance.errors import (
    CheckpointError,
    MethodError,
    RecipeError,
    RunCancelled,
    StackError,
    WriteError,
)
from zenhance.io import write_stack
from zenhance.models.catalogue import WeightsEntry, list_weights
from zenhance.models.checkpoint import read_checkpoint
from zenhance.pipeline import (
    EnhanceRequest,
    LearningProgress,
    enhance,
    enhance_steps,
    estimate_steps,
    learning,
    plan_run,
    preview_steps,
)
from zenhance.provenance import Provenance
from zenhance.stack import Stack


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("start") / "run")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own for models, and a temporary folder that can be looked into."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("ZENHANCE_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was learnt is kept; a few steps decide nothing, and test_held_out tests the decision."""
    monkeypatch.setattr(learning, "is_better", lambda after, before: True)


def request_of(start: Path | str, **changes: Any) -> EnhanceRequest:
    return EnhanceRequest(
        **(
            {
                "method": "dqlr",
                "weights": str(start),
                "learn_minutes": MINUTES,
                "psf": PSF,
                "device": "cpu",
                "arbitrate": False,
            }
            | changes
        )
    )


def drain(steps: Any) -> tuple[list[Any], Any]:
    seen = []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as done:
            return seen, done.value


def own_models() -> list[str]:
    return [entry.name for entry in list_weights("dqlr") if not entry.ships]


@pytest.mark.usefixtures("kept")
def test_it_learns_within_its_time_and_enhances_with_what_it_learnt(
    start: Path, home: Path
) -> None:
    stack, request = small_stack(), request_of(start)
    seen, result = drain(enhance_steps(stack, request))
    learning = [p for p in seen if isinstance(p, LearningProgress)]
    assert {p.stage for p in learning} == {"learn"}
    assert [p.fraction for p in seen] == sorted(p.fraction for p in seen)
    assert all(p.seconds_left is not None and 0 <= p.seconds_left <= 60 * MINUTES for p in learning)
    said = [p.message for p in learning]
    assert any('learning from "my cells": step ' in message for message in said)
    assert said[-1] == 'learning from "my cells": scoring what was learnt'
    losses = [p.loss for p in learning if np.isfinite(p.loss)]
    assert min(losses) < 0.8 * losses[0]
    assert learning[-1].preview.keys() == {"measured", "predicted", "estimate"}

    record = result.provenance
    learnt = record.notes["learnt"]
    path = home / "weights" / "dqlr_my_cells.safetensors"
    assert (learnt["model"], learnt["from"], learnt["minutes"]) == (
        "dqlr_my_cells",
        "my cells",
        MINUTES,
    )
    assert (
        record.weights_sha256
        == learnt["weights_sha256"]
        == hashlib.sha256(path.read_bytes()).hexdigest()
    )
    assert learnt["began_from_sha256"] == hashlib.sha256(start.read_bytes()).hexdigest()
    assert learnt["figures"]["psnr_db"] > 0
    assert learnt["steps"] >= 4
    assert record.psf.startswith("gaussian: sigma_um 0.3")
    # The last validation and the model's own test take the same time however little there was to
    # learn in; ten minutes do not notice.
    assert 0.8 * 60 * MINUTES < learnt["seconds"] < 1.1 * 60 * MINUTES + 1.5
    assert record.seconds > learnt["seconds"] - 0.05, "which is rounded"
    assert list((home / "temporary").iterdir()) == []

    kept = read_checkpoint(path)
    assert kept.card.architecture == ARCHITECTURE
    assert kept.card.voxel_size_um == pytest.approx((0.5, 0.2, 0.2))
    assert (
        kept.card.description
        == f'Learnt from "my cells" alone in {MINUTES:g} min, beginning from {start}.'
    )
    before = read_checkpoint(start).state
    assert any(not np.array_equal(kept.state[name], before[name]) for name in before)

    plain = {"method": "dqlr", "psf": PSF, "device": "cpu", "arbitrate": False}
    again = enhance(stack, weights="dqlr_my_cells", **plain)
    np.testing.assert_array_equal(again.stack.data, result.stack.data)
    untaught = enhance(stack, weights=str(start), **plain)
    assert not np.array_equal(untaught.stack.data, result.stack.data)


@pytest.mark.usefixtures("kept")
def test_a_second_model_of_the_same_stack_gets_a_number_and_a_replay_learns_again(
    start: Path, home: Path
) -> None:
    stack, request = small_stack(name="plant 3/µ.tif"), request_of(start, learn_minutes=0.03)
    first = enhance(stack, request)
    replayed = EnhanceRequest.from_yaml(first.provenance.to_json())
    assert replayed == request
    second = enhance(stack, replayed)
    assert set(own_models()) == {"dqlr_plant_3_.tif", "dqlr_plant_3_.tif-2"}
    assert second.provenance.notes["learnt"]["model"] == "dqlr_plant_3_.tif-2"
    assert (
        read_checkpoint(home / "weights" / "dqlr_plant_3_.tif-2.safetensors").card.name
        == "dqlr_plant_3_.tif-2"
    )


def test_random_weights_take_the_recipe_that_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    from zenhance.training import recipe as recipes

    shipped = recipes.load_recipe("dqlr")
    small = shipped.model_copy(update={"architecture": ARCHITECTURE, **NUMBERS})
    monkeypatch.setattr(
        recipes,
        "load_recipe",
        lambda wanted: small if wanted.startswith("dqlr") else pytest.fail(wanted),
    )
    result = enhance(small_stack(), request_of("none", learn_minutes=0.05))
    learnt = result.provenance.notes["learnt"]
    card = next(entry.card for entry in list_weights("dqlr") if entry.name == learnt["model"])
    assert (learnt["began_from"], learnt["began_from_sha256"]) == ("none", "")
    assert card.architecture == ARCHITECTURE
    assert "start" not in card.recipe
    assert "beginning from random weights" in card.description


def test_cancelled_while_it_learns_nothing_is_left_behind(
    start: Path, home: Path, patience: float
) -> None:
    cancel = threading.Event()
    steps = enhance_steps(small_stack(), request_of(start, learn_minutes=5), cancel)
    while ": step 3" not in next(steps).message:
        pass
    cancel.set()
    began = time.monotonic()
    with pytest.raises(RunCancelled, match="cancelled during learning"):
        next(steps)
    assert time.monotonic() - began < 1.0 * patience
    assert own_models() == []
    assert list((home / "temporary").iterdir()) == []
    assert not (home / "weights").exists()


def test_a_run_whose_window_is_closed_leaves_nothing_behind(start: Path, home: Path) -> None:
    steps = enhance_steps(small_stack(), request_of(start, learn_minutes=5))
    while ": step 2" not in next(steps).message:
        pass
    assert len(list((home / "temporary").iterdir())) == 1
    steps.close()
    assert list((home / "temporary").iterdir()) == []


@pytest.mark.usefixtures("kept")
def test_all_time_points_of_the_cropped_stack_and_the_picked_channel_are_learnt_from(
    start: Path,
) -> None:
    data = np.stack([np.stack([walls(seed)[0], np.zeros_like(walls(0)[0])]) for seed in range(2)])
    stack = Stack.from_array(data, "TCZYX", (0.5, 0.2, 0.2), name="series")
    crop = ((None, None), (4, 40), (0, 40))
    result = enhance(stack, request_of(start, channel=0, crop=crop, learn_minutes=0.06))
    (card,) = [entry.card for entry in list_weights("dqlr") if not entry.ships]
    names = {entry["name"] for entry in card.data}
    assert names == {f"series, time point {t}, channel 0, resimulated" for t in range(2)}
    assert result.stack.shape == (2, 5, 36, 40)
    assert "learnt" in result.provenance.notes
    assert [result.provenance.notes[f"model[{t}]"] for t in range(2)] == ["dqlr_series"] * 2


@pytest.mark.usefixtures("kept")
def test_a_flat_image_smaller_than_a_patch_can_be_learnt_from(start: Path) -> None:
    image = Stack.from_array(walls(0)[0][2, :30, :34], "YX", (0.2, 0.2), name="flat")
    result = enhance(image, request_of(start, psf="sigma_um=0.25,0.25", learn_minutes=0.03))
    assert result.stack.shape == (30, 34)
    (card,) = [entry.card for entry in list_weights("dqlr") if not entry.ships]
    assert card.recipe["patch_px"] == 28


@pytest.mark.usefixtures("kept")
def test_beads_serve_as_the_point_spread_function(start: Path, tmp_path: Path) -> None:
    z, y, x = np.meshgrid(*(np.arange(-n, n + 1) for n in (3, 8, 8)), indexing="ij")
    bead = 1000 * np.exp(
        -0.5 * ((z * 0.5 / 0.5) ** 2 + (y * 0.2 / 0.25) ** 2 + (x * 0.2 / 0.25) ** 2)
    )
    beads = write_stack(
        tmp_path / "beads.ome.tif",
        Stack.from_array(bead.astype(np.float32), "ZYX", (0.5, 0.2, 0.2)),
    )
    result = enhance(small_stack(), request_of(start, psf=f"measured:{beads}", learn_minutes=0.03))
    assert result.provenance.psf.startswith("measured")
    assert result.provenance.notes["psf_sha256"] == hashlib.sha256(beads.read_bytes()).hexdigest()


def test_the_plan_says_that_it_learns_first_and_with_which_psf(start: Path) -> None:
    plan = plan_run(small_stack(), request_of(start, learn_minutes=10))
    assert plan.describe().startswith("learns 10 min first, 1 tile")
    assert plan.psf is not None
    assert "learns" not in plan_run(small_stack(), request_of(start, learn_minutes=None)).describe()


def test_previews_and_estimates_never_learn(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zenhance.pipeline import run

    monkeypatch.setattr(run, "learn_steps", lambda *_: pytest.fail("it learnt"))
    stack = small_stack()
    _, shown = drain(preview_steps(stack, request_of(start, learn_minutes=10), 2))
    _, plain = drain(preview_steps(stack, request_of(start, learn_minutes=None), 2))
    np.testing.assert_array_equal(shown.stack.data, plain.stack.data)
    _, seconds = drain(estimate_steps(stack, request_of(start, learn_minutes=10)))
    assert 600 < seconds < 660
    _, seconds = drain(estimate_steps(stack, request_of("none", learn_minutes=10)))
    assert 600 <= seconds < 660
    with pytest.raises(RecipeError, match="random weights cannot be previewed"):
        drain(preview_steps(stack, request_of("none", learn_minutes=10), 2))
    assert own_models() == []


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (
            {"method": "rdn"},
            RecipeError,
            r"rdn cannot learn from the stack itself; choose one that can \([a-z, ]*dqlr[a-z, "
            r"]*\), or drop",
        ),
        (
            {"method": "gaussian_deconvolution"},
            RecipeError,
            "the method gaussian_deconvolution cannot learn",
        ),
        ({"learn_minutes": 0}, RecipeError, "learn_minutes is 0: it should be greater than 0"),
        (
            {"learn_minutes": 1441},
            RecipeError,
            "learn_minutes is 1441: it should be less than or equal to 1440",
        ),
        (
            {"learn_minutes": None, "weights": "none"},
            RecipeError,
            'weights "none" start from random values; give learn_minutes',
        ),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_one_sentence(
    fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        request_of("none", **fields)
    assert len(str(caught.value)) <= 240
    with pytest.raises(MethodError, match="there is no method"):
        EnhanceRequest(method="dqrl", learn_minutes=1).parameters()


def test_what_cannot_be_learnt_from_is_refused_before_it_begins(
    start: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = walls(0)[0]
    with pytest.raises(StackError, match="voxel size"):
        enhance(Stack.from_array(data, "ZYX"), request_of(start))
    with pytest.raises(StackError, match="too small to learn from"):
        enhance(small_stack(), request_of(start, crop=((None, None), (0, 11), (0, 40))))
    with pytest.raises(CheckpointError, match="belongs to the method rdn, not to dqlr"):
        enhance(small_stack(), request_of(next(e.path for e in list_weights("rdn"))))
    if os.geteuid() != 0:
        locked = home / "locked"
        locked.mkdir(mode=0o500)
        monkeypatch.setenv("ZENHANCE_WEIGHTS", str(locked / "weights"))
        with pytest.raises(WriteError, match="cannot be written"):
            enhance(small_stack(), request_of(start))
    blocked = home / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("ZENHANCE_WEIGHTS", str(blocked / "weights"))
    with pytest.raises(WriteError, match="cannot be written; set ZENHANCE_WEIGHTS"):
        enhance(small_stack(), request_of(start))


@pytest.mark.parametrize(("psnr_db", "warned"), [(19.0, True), (20.0, True), (21.0, False)])
@pytest.mark.usefixtures("kept")
def test_a_model_that_comes_no_closer_to_its_estimate_is_warned_of(
    start: Path, psnr_db: float, warned: bool
) -> None:
    card = read_checkpoint(start).card.model_copy(
        update={"metrics": {"psnr_db": psnr_db, "psnr_identity_db": 20.0}}
    )
    entry = WeightsEntry("mine", start, card, False)
    learnt = learning._account(
        small_stack(),
        entry,
        card,
        learning._Start(),
        learning._Clock("my cells", 2.0, threading.Event()),
    )
    said = (
        'what was learnt in 2 min, "mine", comes no closer to its own estimate of the specimen '
        "than the measurement does; learn longer"
    )
    assert learnt.warnings == ((said,) if warned else ())


@pytest.mark.usefixtures("kept")
def test_the_record_of_a_run_that_learnt_reads_back(start: Path) -> None:
    result = enhance(small_stack(), request_of(start, learn_minutes=0.03))
    found = Provenance.find(result.stack.metadata)
    assert found is not None
    assert found.notes["learnt"] == result.provenance.notes["learnt"]
    assert found.request["learn_minutes"] == 0.03
