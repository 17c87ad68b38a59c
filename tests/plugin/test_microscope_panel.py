"""The measured microscope in the Enhance dock: plot, doubts, saved profiles, cancelling."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

from zenhance.physics.profile import DepthCurve, MicroscopeProfile, Quantity, load_profile
from zenhance.plugin import microscope_panel
from zenhance.plugin.dock_base import MIN_WIDTH_PX
from zenhance.plugin.microscope_panel import doubt_sentence
from zenhance.plugin.profile_plot import bands
from zenhance.plugin.profile_store import profile_path

DOUBT = "the z step of 0.5 µm is doubtful"


def profile(*doubts: str) -> MicroscopeProfile:
    def number(value, origin="measured"):
        return Quantity(value=value, low=0.8 * value, high=1.25 * value, origin=origin)

    def curve(*values, share=0.2):
        return DepthCurve(
            depth_um=(0.0, 10.0, 20.0),
            values=values,
            low=tuple((1 - share) * v for v in values),
            high=tuple((1 + share) * v for v in values),
            origins=("measured",) * 3,
        )

    return MicroscopeProfile(
        voxel_size_um=(0.5, 0.2, 0.2),
        gain=number(2.0),
        offset=number(100.0, "file"),
        read_noise=number(3.0, "user"),
        background=number(104.0),
        attenuation_um=number(20.0),
        bleached_per_plane=Quantity.given(0.0, "default"),
        brightness=curve(1.0, math.exp(-0.5), math.exp(-1.0), share=0.0),
        haze=curve(5.0, 6.0, 7.0),
        sigma_z_um=curve(0.5, 0.7, 0.9),
        sigma_yx_um=curve(0.2, 0.25, 0.3),
        doubts=doubts,
    )


@pytest.fixture
def noisy() -> np.ndarray:
    """A stack (Z, Y, X) with photon noise and light that falls with depth."""
    rng = np.random.default_rng(3)
    light = np.exp(-np.arange(24) / 12.0)[:, None, None] * rng.gamma(2.0, 40.0, (24, 48, 48))
    return (100 + rng.poisson(light)).astype(np.uint16)


@pytest.fixture
def measured(monkeypatch):
    """Measuring yields a given profile in three steps; an event can hold it back."""
    gate = threading.Event()
    gate.set()
    seen = []

    def steps(volume, voxel_um, **_):
        seen.append((volume.shape, voxel_um, threading.current_thread()))
        for step in range(3):
            yield "measuring the blur", step / 3
            while not gate.is_set():
                yield "measuring the blur", step / 3
        return profile(DOUBT)

    monkeypatch.setattr("zenhance.pipeline.profile.profile_steps", steps)
    return gate, seen


def measure(bench):
    panel = bench.dock.form.microscope
    panel.measure_button.click()
    bench.qtbot.waitUntil(lambda: not panel.measuring, timeout=30_000)
    return panel


def test_the_plot_shows_light_and_widths_with_their_intervals_after_measuring(bench, noisy):
    bench.add(noisy)
    panel = bench.dock.form.microscope
    assert panel.plot.isHidden()
    measure(bench)
    assert not panel.plot.isHidden()
    assert panel.measure_button.text() == "Measure again"
    for name in ("sigma_z", "sigma_yx"):
        assert all(low < value < high for _, value, low, high in panel.plot.bands[name])
    painted = panel.plot.grab().toImage()
    colours = {painted.pixelColor(x, 70).name() for x in range(painted.width())}
    assert len(colours) > 3
    assert "measured" in panel.numbers.text()


def test_the_interval_of_the_light_follows_from_that_of_the_attenuation_length():
    *_, (depth, value, low, high) = bands(profile())["light"]
    assert depth == 20.0
    assert value == pytest.approx(math.exp(-20 / 20))
    assert low == pytest.approx(math.exp(-20 / 16))
    assert high == pytest.approx(math.exp(-20 / 25))


def test_every_number_shown_carries_its_mark(bench, noisy, measured):
    bench.add(noisy)
    rows = measure(bench).numbers.text().split("</tr>")[:-1]
    assert len(rows) == 9
    assert all(row.count("</td>") == 3 for row in rows)
    marks = [row.rsplit(">", 2)[1].removesuffix("</td") for row in rows]
    assert marks[:4] == ["measured", "measured", "file", "user"]
    assert set(marks) <= {"file", "user", "measured", "default"}


def test_a_doubt_is_shown_above_the_enhance_button(bench, noisy, measured):
    bench.add(noisy)
    measure(bench)
    dock = bench.dock
    assert dock.form.doubt_line.text() == f"Check: {DOUBT}."
    column = [dock.layout().itemAt(i).widget() for i in range(dock.layout().count())]
    assert column.index(dock.form.doubt_line) < column.index(dock.panel)
    bench.add(noisy, name="other")
    assert dock.form.doubt_line.text() == ""


def test_many_doubts_are_one_sentence():
    assert doubt_sentence(profile()) == ""
    said = doubt_sentence(profile("a", "b", "c", "d"))
    assert said == "Check: a; b; and 2 more under Microscope."


def test_a_saved_profile_is_offered_for_another_layer(bench, noisy, measured):
    bench.add(noisy)
    panel = measure(bench)
    panel.save_as("Leica 63x")
    assert load_profile(profile_path("Leica 63x")) == profile(DOUBT).model_copy(
        update={"name": "Leica 63x"}
    )
    assert panel.source.currentText() == "Leica 63x"
    bench.add(noisy[:, :40], name="other")
    assert panel.source.currentText() == "Leica 63x"
    assert panel.profile.name == "Leica 63x"
    panel.source.setCurrentIndex(0)
    assert panel.profile is None
    assert panel.source.findText("Leica 63x") > 0


def test_a_profile_is_replaced_only_after_a_question(bench, noisy, measured, monkeypatch):
    bench.add(noisy)
    panel = measure(bench)
    panel.save_as("mine")
    before = profile_path("mine").read_bytes()
    panel.source.setCurrentIndex(0)
    asked = []
    monkeypatch.setattr(type(panel), "_may_replace", lambda _, name: asked.append(name))
    assert panel.profile is not None
    panel.save_as("mine")
    assert asked == ["mine"]
    assert profile_path("mine").read_bytes() == before


def test_a_name_that_is_no_file_name_and_a_file_of_another_format_are_sentences(
    bench, noisy, measured, said
):
    bench.add(noisy)
    panel = measure(bench)
    panel.save_as("../x")
    assert 'name is "../x"' in said[-1][1]
    path = profile_path("old")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"format": 0}')
    panel.refresh_names()
    panel.source.setCurrentIndex(panel.source.findText("old"))
    assert "cannot be used" in said[-1][1]
    assert panel.profile is None


def test_measuring_is_cancelled_by_the_same_button_and_keeps_nothing(bench, noisy, measured):
    gate, seen = measured
    gate.clear()
    bench.add(noisy)
    panel = bench.dock.form.microscope
    panel.measure_button.click()
    bench.qtbot.waitUntil(lambda: bool(seen), timeout=10_000)
    assert panel.measure_button.text() == "Cancel"
    assert seen[0][2] is not threading.main_thread()
    panel.measure_button.click()
    bench.qtbot.waitUntil(lambda: not panel.measuring, timeout=10_000)
    assert panel.profile is None
    assert panel.measure_button.text() == "Measure"
    assert panel.status.text() == "cancelled; nothing was measured"


def test_another_layer_ends_the_measurement_of_the_previous_one(bench, noisy, measured):
    gate, seen = measured
    gate.clear()
    bench.add(noisy)
    panel = bench.dock.form.microscope
    panel.measure_button.click()
    bench.qtbot.waitUntil(lambda: bool(seen), timeout=10_000)
    task = panel._task
    bench.add(noisy, name="other")
    assert not panel.measuring
    gate.set()
    bench.qtbot.waitUntil(lambda: not task.running, timeout=10_000)
    assert panel.profile is None


def test_small_layers_are_measured_by_themselves_and_large_ones_are_not(
    bench, noisy, measured, monkeypatch
):
    panel = bench.dock.form.microscope
    monkeypatch.setattr(panel, "_held", False)
    panel._timer.setInterval(1)
    first = bench.add(noisy)
    bench.qtbot.waitUntil(lambda: panel.profile is not None, timeout=10_000)
    monkeypatch.setattr(microscope_panel, "MAX_AUTOMATIC_VOXELS", noisy.size - 1)
    bench.add(noisy, name="large")
    assert not panel._timer.isActive()
    bench.dock.form.source.choose(first)
    assert panel.profile is not None
    assert len(measured[1]) == 1


def test_an_image_without_depth_is_answered_by_a_sentence(bench, noisy):
    bench.add(noisy[0], scale=(0.2, 0.2), name="flat")
    panel = measure(bench)
    assert "has no z axis" in panel.status.text()


def test_the_form_does_not_scroll_sideways(bench, noisy, measured):
    bench.add(noisy)
    measure(bench)
    form = bench.dock.form
    form.optics.expand(animate=False)
    assert form.minimumSizeHint().width() <= MIN_WIDTH_PX


def test_the_request_names_the_profile_and_comes_back_as_it_was(bench, noisy, measured):
    bench.add(noisy)
    form = bench.dock.form
    panel = measure(bench)
    assert (form.request().profile, form.request().even_light) == (None, False)
    panel.source.setCurrentIndex(1)
    panel.even.setChecked(True)
    own = form.request()
    assert (own.profile, own.even_light) == ("measure", True)
    panel.save_as("mine")
    saved = form.request()
    assert saved.profile == str(profile_path("mine"))
    for request in (own, saved):
        form.show_request(request)
        assert form.request() == request
    panel.source.setCurrentIndex(2)
    assert form.request().profile == "none"
    assert panel.profile is None
    panel.source.setCurrentIndex(0)
    assert form.request().profile is None
    assert panel.profile == profile(DOUBT)


def test_the_panel_says_whether_the_run_uses_the_profile(bench, noisy, measured):
    bench.add(noisy)
    form, panel = bench.dock.form, bench.dock.form.microscope
    assert panel.usage.text().startswith("The run uses the default PSF: the microscope is measured")
    bench.add(np.tile(noisy, (1, 2, 2)), name="wide")
    assert panel.usage.text() == "The run uses this profile."
    form.show_request(form.request().model_copy(update={"psf": "sigma_um=0.5,0.2,0.2"}))
    assert panel.usage.text() == "The run uses the PSF above."
    panel.source.setCurrentIndex(1)
    assert panel.usage.text() == "The run uses this profile."
    panel.source.setCurrentIndex(2)
    assert panel.usage.text() == "The run uses one PSF for all depths."


def test_a_remembered_profile_that_is_gone_is_forgotten(bench, noisy, measured):
    bench.add(noisy)
    form = bench.dock.form
    measure(bench).save_as("mine")
    lasting = form.state()["lasting"]
    assert lasting["profile"] == str(profile_path("mine"))
    profile_path("mine").unlink()
    form.microscope.source.setCurrentIndex(0)
    form.show_state({"lasting": lasting})
    assert form.request().profile is None


def test_even_light_does_not_outlast_a_session(bench, noisy, measured):
    bench.add(noisy)
    form = bench.dock.form
    form.microscope.even.setChecked(True)
    assert form.state()["request"]["even_light"] is True
    assert "even_light" not in form.state()["lasting"]
