"""What the dock says, where it says it, and that no message takes the place of the settings."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel, Field

from zenhance.contract import registry
from zenhance.plugin import dock_words
from zenhance.plugin.dock_words import in_dock_words
from zenhance.plugin.form import widget_for
from zenhance.plugin.panels import MAX_MESSAGE_PX
from zenhance.plugin.result_layers import range_remark
from zenhance.steps import drain


def type_voxel_size(bench, **lengths):
    for axis, text in lengths.items():
        field = bench.dock.form.source.voxel[axis]
        field.line.setText(text)
        field.line.editingFinished.emit()


def test_a_message_does_not_outlive_the_method_the_layer_or_the_settings_it_is_about(bench, cells):
    bench.choose("slow")
    first = bench.add(cells)
    edits = {
        "method": lambda: bench.choose("blurred"),
        "layer": lambda: bench.add(cells, name="other"),
        "setting": lambda: bench.choose("blurred", steps=7),
        "voxel size": lambda: type_voxel_size(bench, Z="0.4"),
    }
    for name, edit in edits.items():
        bench.dock.panel.say("an old warning", wrong=True)
        edit()
        assert bench.dock.panel.note.text() == "", name
    bench.dock.form.source.choose(first)


def test_the_message_of_a_run_stays_while_the_result_is_added(bench, cells):
    bench.choose("slow")
    bench.add(cells)
    bench.run()
    assert bench.dock.panel.note.text().startswith('"cells · slow" made in ')


def test_long_messages_scroll_and_leave_the_settings_their_place(bench, cells, qtbot):
    bench.add(cells)
    dock = bench.dock
    dock.resize(420, 620)
    for message in (dock.panel.note, dock.form.plan_line):
        message.say("one sentence of many. " * 200)
        qtbot.waitUntil(lambda message=message: message.height() == MAX_MESSAGE_PX, timeout=2000)
        message.say("short")
        assert message.height() < 40
        message.say("")
        assert message.isHidden()


def test_an_unknown_voxel_size_makes_the_form_no_wider_than_the_dock(bench, cells):
    from zenhance.plugin.dock_base import MIN_WIDTH_PX

    bench.add(cells, scale=None)
    source = bench.dock.form.source
    assert source.mark.text() == "unknown"
    # The margins of the dock and its scroll bar take the rest.
    assert source.minimumSizeHint().width() <= MIN_WIDTH_PX
    type_voxel_size(bench, Z="0.5")
    assert source.mark.text() == "mixed"
    assert "z: typed by you" in source.mark.toolTip()


def test_the_label_of_the_voxel_size_names_the_axes_of_the_layer(bench, cells):
    source = bench.dock.form.source
    bench.add(cells)
    assert source.voxel_label.text() == "voxel z y x [µm]"
    bench.add(cells[0], scale=(0.2, 0.2), name="flat")
    assert source.voxel_label.text() == "voxel y x [µm]"
    assert source.voxel["Z"].isHidden()


@pytest.mark.parametrize("name", registry.names())
def test_labels_name_a_unit_once(qtbot, name):
    parameters = registry.load(name).spec.parameters
    for field, info in parameters.model_fields.items():
        label = widget_for(field, info).label
        words, _, unit = label.partition(" [")
        for ending in ("um", "px", "nm"):
            assert not (unit and words.endswith(f" {ending}")), label


def test_a_suffix_that_is_no_unit_stays_in_the_label(qtbot):
    class Model(BaseModel):
        background_um: float = Field(1.0, json_schema_extra={"unit": "µm"})
        steps: int = Field(1, json_schema_extra={"unit": "steps"})
        focus_um: float = 1.0

    labels = [widget_for(name, info).label for name, info in Model.model_fields.items()]
    assert labels == ["background [µm]", "steps", "focus um"]


def test_a_plan_that_is_refused_is_a_sentence_without_a_traceback(
    make_bench, cells, qtbot, caplog, monkeypatch
):
    monkeypatch.setattr("zenhance.plugin.run_estimate.QUIET_MS", 20)
    caplog.set_level(logging.INFO)
    bench = make_bench(plans=True)
    bench.choose("blurred")
    bench.add(cells, scale=None)
    qtbot.waitUntil(lambda: "unknown" in bench.dock.form.plan_line.text(), timeout=20_000)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (
            "voxel size in z is unknown; give it with --voxel-size Z,Y,X or set the layer's scale",
            'voxel size in z is unknown; type it under "voxel"',
        ),
        (
            "deconvolution needs a point spread function; give one with --psf, for example "
            "--psf sigma_um=0.3,0.1,0.1",
            'deconvolution needs a point spread function; give one under "PSF"',
        ),
        ("let it learn first (--learn 10min)", 'let it learn first ("learn first")'),
        ("use --channel 0 or leave it out", 'use "channel" or leave it out'),
        ("name the axes, for example --axes ZYX", "name the axes"),
        ("a file called --x-y; 5 -- 6", "a file called --x-y; 5 -- 6"),
    ],
)
def test_messages_name_fields_of_the_dock_instead_of_options(theirs, ours):
    assert in_dock_words(theirs) == ours


def test_every_module_of_the_plugin_words_errors_for_the_dock():
    folder = Path(dock_words.__file__).parent
    others = [path for path in folder.glob("*.py") if path.stem not in ("dock_words", "recovery")]
    assert [path.name for path in others if re.search(r"\bsentence\(", path.read_text())] == []


class _Result:
    """The part of a result that has pixels."""

    def __init__(self, data):
        self.stack = type("Stack", (), {"data": data})()


@pytest.mark.parametrize(
    ("dtype", "values", "said"),
    [
        (np.uint8, (-128.4, 1064.0), "values -128.4 to 1064; 20 % of the voxels lie outside the 0"),
        (np.uint8, (-0.4, 255.4), ""),
        (np.uint16, (0.0, 65536.0), "values 0 to 65536; 10 % of the voxels lie outside the 0 to"),
        (np.int16, (-40000.0, 5.0), "outside the -32768 to 32767 that int16"),
        (np.float32, (-1e9, 1e9), ""),
    ],
)
def test_values_that_the_type_of_the_original_cannot_hold_are_said(dtype, values, said):
    data = np.full((2, 1, 5), 5.0, np.float32)
    data[0, 0, 0], data[1, 0, 0] = values
    text = drain(range_remark(_Result(data), np.dtype(dtype)))
    assert said in text
    assert bool(said) == bool(text)
    data[1, 0, 1:3] = np.nan, np.inf
    assert bool(drain(range_remark(_Result(data), np.dtype(dtype)))) == bool(said)


def test_a_result_beyond_the_range_of_the_input_is_said_below_the_button(bench):
    bench.choose("slow")
    bench.add(np.full((3, 8, 8), 255, np.uint8))
    bench.run()
    note = bench.dock.panel.note.text()
    assert "100 % of the voxels lie outside the 0 to 255 that uint8" in note
    options = bench.dock.form.options
    options.dtype.setCurrentIndex(options.dtype.findData("input"))
    bench.run()
    assert "outside the 0 to 255" not in bench.dock.panel.note.text()


def test_enhancing_a_result_once_more_is_asked_about(bench, cells, monkeypatch):
    asked, answers = [], [False, True]
    monkeypatch.setattr(
        type(bench.dock),
        "ask",
        lambda _, question: asked.append(question) or answers[len(asked) - 1],
    )
    bench.choose("slow")
    bench.add(cells)
    (result,) = bench.run()
    assert asked == []
    bench.dock.form.source.choose(result)
    assert bench.run() == []
    (again,) = bench.run()
    np.testing.assert_array_equal(again.data, cells.astype(np.float32) + 2)
    assert len(asked) == 2
    assert '"cells · slow" is already a result' in asked[0]
