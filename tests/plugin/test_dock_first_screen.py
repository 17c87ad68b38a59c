"""The first screen: what for, method and why, doubts with buttons; the rest opens on demand."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtWidgets import (
    QAbstractSpinBox,
    QCheckBox,
    QComboBox,
    QLineEdit,
    QPushButton,
    QSlider,
    QWidget,
)

from benchmarks.judge_scenes import VOXEL_UM, make_scene
from zenhance.pipeline import EnhanceRequest
from zenhance.plugin.doubts import resample_steps, trained_voxel_um
from zenhance.plugin.method_advice import advice_steps
from zenhance.steps import drain

# Of the dock in a window of 1366 × 740 pixels, as benchmarks/experiments/screenshots.py opens it.
HEIGHT_PX = 674


def pick(combo, index):
    """Choose an entry as the user does."""
    combo.setCurrentIndex(index)
    combo.activated.emit(index)


def purpose(bench, title):
    pick(bench.dock.form.purpose, bench.dock.form.purpose.findText(title))


def chosen(bench):
    return bench.dock.form.method.currentData()


def advise(bench, layer):
    """Let the line of advice know the layer, as after its measurement in the background."""
    line = bench.dock.advice
    stack, request = line._ask()
    found = drain(advice_steps(_Still(stack), request, None))
    line._known.append((_Ref(layer), line._subject(), found))
    line._key = None
    line.refresh()
    return found


class _Still:
    """A snapshot that is there already."""

    def __init__(self, stack):
        self._stack = stack

    def copy_steps(self):
        yield from ()

    def stack(self):
        return self._stack


class _Ref:
    def __init__(self, layer):
        self._layer = layer

    def __call__(self):
        return self._layer


def test_the_first_screen_fits_on_a_small_laptop(bench, cells):
    bench.add(cells)
    bench.choose("gaussian_deconvolution")
    dock = bench.dock
    dock.form.plan_line.say("1 tile, 115 MB to work in, result 4.1 MB; about 17 s on CPU")
    items = [dock.layout().itemAt(i).widget() for i in range(1, dock.layout().count())]
    below = [item.sizeHint().height() for item in items if not item.isHidden()]
    spaces = dock.layout().spacing() * (len(below) + 2)
    assert dock.form.sizeHint().height() + sum(below) + spaces <= HEIGHT_PX


def test_a_purpose_sets_output_and_light_and_shows_them(bench, cells):
    bench.add(cells)
    bench.choose("blurred")
    expected = {
        "only cleaner": ("denoised", False),
        "for segmentation": ("sharp", True),
        "cleaner and sharper": ("sharp", False),
    }
    for title, fields in expected.items():
        purpose(bench, title)
        request = bench.dock.request()
        assert (request.output, request.even_light) == fields
    form = bench.dock.form
    bench.dock.show_request(EnhanceRequest(method="blurred", output="denoised"))
    assert form.purpose.currentText() == "only cleaner"
    bench.dock.show_request(EnhanceRequest(method="blurred", output="denoised", even_light=True))
    assert form.purpose.currentIndex() == -1


def test_the_recommended_method_is_taken_until_the_user_picks_one(bench):
    layer = bench.add(make_scene("walls", 60.0, 3, gain=4.0).measured, scale=VOXEL_UM)
    found = advise(bench, layer)
    assert found.method == "dqlr"
    assert chosen(bench) == "dqlr"
    line = bench.dock.advice
    assert line.line.text().startswith("Recommended: The structures are walls")
    assert line.use.isHidden()
    form = bench.dock.form
    pick(form.method, form.method.findData("srcnn"))
    assert line.line.text().startswith("DQLR is recommended: ")
    bench.dock.advice.refresh()
    assert chosen(bench) == "srcnn"
    line.use.click()
    assert chosen(bench) == "dqlr"


def test_only_cleaner_recommends_deconvolution(bench):
    layer = bench.add(make_scene("walls", 60.0, 3, gain=4.0).measured, scale=VOXEL_UM)
    advise(bench, layer)
    purpose(bench, "only cleaner")
    assert advise(bench, layer).method == "gaussian_deconvolution"
    assert chosen(bench) == "gaussian_deconvolution"
    purpose(bench, "cleaner and sharper")
    assert chosen(bench) == "dqlr"


def test_the_layer_is_measured_in_the_background(bench, qtbot):
    del bench.dock.advice.hold
    bench.dock.advice.hold(False)
    bench.add(make_scene("walls", 60.0, 3, gain=4.0).measured, scale=VOXEL_UM)
    qtbot.waitUntil(lambda: bench.dock.advice.advice is not None, timeout=60_000)
    assert chosen(bench) == "dqlr"


def test_only_settings_that_apply_are_shown(bench, cells):
    bench.add(cells)
    bench.choose("gaussian_deconvolution")

    def shown():
        fields = bench.dock.form.settings.fields
        return {name for name, field in fields.items() if not field.native.isHidden()}

    assert shown() == {"variant", "dimensions", "iterations", "stop", "acceleration", "tv_weight"}
    settings = bench.dock.form.settings
    assert settings.advanced.isHidden()
    settings.fields["variant"].value = "wiener"
    assert shown() == {"variant", "dimensions", "wiener_noise"}
    settings.fields["variant"].value = "imagej"
    assert "imagej_form" in shown()
    assert not settings.advanced.isHidden()


def test_the_strength_stands_on_the_first_screen(bench, cells):
    bench.add(cells)
    bench.choose("gaussian_deconvolution")
    form = bench.dock.form
    assert not form.own.isExpanded()
    assert form.settings.strength.isVisibleTo(form)
    form.settings.fields["tv_weight"].value = 0.01
    assert bench.dock.request().settings == {"tv_weight": 0.01}
    bench.choose("slow")
    assert form.settings.strength is None


def test_the_tab_key_passes_closed_parts_by(bench, cells):
    bench.add(cells)
    form = bench.dock.form
    assert not form.device.isVisibleTo(form)
    form.more.toggleButton().click()
    assert form.device.isVisibleTo(form)
    form.more.toggleButton().click()
    assert not form.device.isVisibleTo(form)


def test_every_control_has_a_tooltip(bench, cells):
    bench.add(cells)
    bench.choose("gaussian_deconvolution")
    bare = []
    for kind in (QPushButton, QComboBox, QCheckBox, QAbstractSpinBox, QSlider, QLineEdit):
        for widget in bench.dock.findChildren(kind):
            inside = isinstance(widget.parentWidget(), QAbstractSpinBox | QComboBox)
            if not inside and not _tip(widget):
                bare.append((kind.__name__, widget.objectName(), _named(widget)))
    assert bare == []


def _tip(widget):
    """Return the tooltip that is shown over a widget: its own, or that of what it lies in."""
    while isinstance(widget, QWidget):
        if widget.toolTip():
            return widget.toolTip()
        widget = widget.parentWidget()
    return ""


def _named(widget):
    return widget.text() if hasattr(widget, "text") else widget.metaObject().className()


# ---------------------------------------------------------------------- doubts


def doubts(bench):
    bench.dock._show_doubts()
    return [doubt.action for doubt in bench.dock.doubts.doubts]


def click(bench, number=0):
    bench.dock.doubts.rows[number][1].click()


def plan(bench):
    from zenhance.pipeline import plan_run

    bench.dock._planned(plan_run(*bench.dock._to_measure()))


def test_an_unknown_voxel_size_leads_to_its_field(bench, cells):
    bench.add(cells, scale=None)
    assert doubts(bench) == ["voxel"]
    line, button = bench.dock.doubts.rows[0]
    assert "voxel size is unknown" in line.text()
    assert "--" not in line.text()
    assert "e09000" in line.label.styleSheet()
    assert button.text() == "Type it"
    form = bench.dock.form
    assert not form.optics.isExpanded()
    click(bench)
    assert form.optics.isExpanded()
    for axis, length in zip("ZYX", VOXEL_UM, strict=True):
        form.source.voxel[axis].set_typed(length)
    form.source.edited.emit()
    assert "voxel" not in doubts(bench)


def test_a_file_that_another_reader_opened_is_opened_again(bench, tmp_path):
    from zenhance.io import write_stack
    from zenhance.stack import Stack

    path = tmp_path / "stack.tif"
    write_stack(path, Stack.from_array(np.zeros((4, 20, 20), np.uint16), "ZYX", VOXEL_UM))
    bench.viewer.open(path, plugin="napari")
    bench.dock.form.source.choose(bench.viewer.layers[-1])
    if bench.dock.form.facts.voxel_size.is_known("ZYX"):
        pytest.skip("this napari keeps the voxel size of a TIFF")
    assert doubts(bench) == ["reopen"]
    click(bench)
    assert bench.dock.form.layer is bench.viewer.layers[-1]
    assert len(bench.viewer.layers) == 2
    assert bench.dock.request().voxel_size_um is None
    assert doubts(bench) == []


def test_pixels_of_200_um_are_said_before_the_click(bench, cells):
    bench.choose("gaussian_deconvolution")
    bench.add(cells, scale=(1.0, 200.0, 200.0))
    plan(bench)
    assert "voxel" in doubts(bench)
    text = bench.dock.doubts.rows[0][0].text()
    assert "200 µm, unusual for a light microscope" in text


def test_a_default_psf_is_measured_by_its_button(bench, qtbot):
    bench.choose("dqlr")
    bench.add(make_scene("walls", 60.0, 3, gain=4.0).measured, scale=VOXEL_UM)
    plan(bench)
    assert doubts(bench)[-1] == "measure"
    number = len(doubts(bench)) - 1
    click(bench, number)
    panel = bench.dock.form.microscope
    qtbot.waitUntil(lambda: panel.profile is not None, timeout=120_000)
    assert bench.dock.request().profile == "measure"
    assert ("measure" in doubts(bench)) == (not panel.profile.blur_is_measured)


def test_a_model_of_other_voxels_learns_first_or_is_resampled_for(bench, cells):
    bench.choose("dqlr")
    bench.add(cells, scale=(2.0, 0.8, 0.8))
    form = bench.dock.form
    form.weights.show_weights("dqlr_stack")
    assert trained_voxel_um(bench.dock.request()) is not None
    assert doubts(bench)[0] == "learn"
    click(bench)
    assert bench.dock.request().learn_minutes == 10.0
    assert "learn" not in doubts(bench)
    bench.choose("rdn")
    layer = form.layer
    trained = trained_voxel_um(bench.dock.request())
    assert trained is not None
    assert doubts(bench)[0] == "resample"
    click(bench)
    bench.wait()
    assert form.layer is not layer
    np.testing.assert_allclose(form.facts.voxel_size.zyx_um, trained, rtol=0.1)
    assert "resample" not in doubts(bench)


def test_a_resampled_layer_covers_the_same_place_and_keeps_a_ramp(bench):
    ramp = np.broadcast_to(np.arange(30.0), (4, 8, 30)).astype(np.float32)
    layer = bench.viewer.add_image(ramp, scale=(1, 0.4, 0.4), translate=(5, 6, 7))
    data, keywords = drain(resample_steps(layer, "ZYX", (1.0, 0.4, 0.4), (1.0, 0.2, 0.2)))
    assert data.shape == (4, 16, 60)
    np.testing.assert_allclose(data[0, 0, 2:-2], (np.arange(60) - 0.5)[2:-2] / 2, atol=1e-4)
    fine = bench.viewer.add_image(data, **keywords)
    np.testing.assert_allclose(fine.extent.world, layer.extent.world, atol=0.21)
    edges = [np.array(one.data_to_world(np.full(3, -0.5))) for one in (fine, layer)]
    np.testing.assert_allclose(edges[0], edges[1], atol=1e-9)
