"""A run from the click to the layer: results, progress, cancel, errors, settings."""

from __future__ import annotations

import json
import threading
import time

import numpy as np
import pytest

from zenhance.pipeline import EnhanceRequest, enhance
from zenhance.plugin.layer_bridge import FILE_KEY
from zenhance.stack import Stack


def test_clicking_enhance_adds_the_result_beside_the_original(bench, cells):
    bench.choose("slow")
    layer = bench.add(
        cells,
        translate=(3, 4, 5),
        contrast_limits=(10, 500),
        colormap="magenta",
        axis_labels=("z", "y", "x"),
    )
    (result,) = bench.run()
    np.testing.assert_array_equal(result.data, cells.astype(np.float32) + 1)
    assert result.name == "cells · slow"
    np.testing.assert_array_equal(result.scale, layer.scale)
    np.testing.assert_array_equal(result.translate, layer.translate)
    assert result.units == layer.units
    assert result.axis_labels == ("z", "y", "x")
    assert result.colormap.name == "magenta"
    assert tuple(result.contrast_limits) == (10, 500)
    assert list(bench.viewer.layers) == [layer, result]


def test_turned_and_sheared_layers_get_their_result_in_the_same_place(bench, cells):
    bench.choose("slow")
    turn = np.array([[1, 0, 0, 5], [0, 0, -1, 6], [0, 1, 0, 7], [0, 0, 0, 1]], dtype=float)
    layer = bench.add(cells, rotate=20.0, shear=(0.1, 0.0, 0.0), affine=turn, translate=(1, 2, 3))
    (result,) = bench.run()
    for index in [(0, 0, 0), (5, 19, 23)]:
        np.testing.assert_allclose(
            result.data_to_world(index), layer.data_to_world(index), atol=1e-9
        )


def test_a_finer_result_covers_the_same_field_and_its_extras_come_along(bench, cells):
    bench.choose("finer")
    layer = bench.add(cells, translate=(3, 4, 5))
    result, doubt = bench.run()
    assert result.data.shape == (12, 40, 48)
    np.testing.assert_allclose(result.scale, np.array(layer.scale) / 2)
    np.testing.assert_allclose(result.translate, np.array((3, 4, 5)) - np.array(layer.scale) / 4)
    assert doubt.name == "cells · finer · doubt"
    assert not doubt.visible


def test_the_result_carries_its_provenance_as_json(bench, cells):
    bench.choose("slow", steps=3)
    bench.add(cells, metadata={"mine": 1, FILE_KEY: {"na": 1.2}})
    (result,) = bench.run()
    record = json.loads(json.dumps(result.metadata["zenhance"]))
    assert record["request"]["method"] == "slow"
    assert record["request"]["settings"] == {"steps": 3}
    assert record["input_shape"] == [6, 20, 24]
    assert record["curves"] == {"steps": [1.0, 0.5]}
    assert result.metadata["mine"] == 1
    assert result.metadata[FILE_KEY]["na"] == 1.2


def test_the_dock_and_python_give_the_same_result_for_the_same_request(bench, cells):
    bench.choose("slow", steps=4)
    bench.add(cells)
    request = bench.dock.request()
    (result,) = bench.run()
    again = enhance(Stack.from_array(cells, "ZYX", (0.5, 0.2, 0.2)), request)
    np.testing.assert_array_equal(result.data, again.stack.data)


def test_progress_is_shown_and_the_buttons_come_back(bench, cells, qtbot):
    bench.choose("slow", steps=40, step_s=0.02)
    bench.add(cells)
    seen = []
    show = bench.dock.panel.show_progress
    bench.dock.panel.show_progress = lambda progress: (
        seen.append(progress.fraction),
        show(progress),
    )
    bench.dock.panel.enhance.click()
    assert not bench.dock.panel.enhance.isEnabled()
    assert not bench.dock.panel.preview.isEnabled()
    assert bench.dock.panel.cancel.isEnabled()
    bench.wait()
    assert len(seen) >= 3
    assert seen == sorted(seen)
    assert bench.dock.panel.enhance.isEnabled()
    assert not bench.dock.panel.cancel.isEnabled()


def test_cancel_is_answered_within_a_second_and_leaves_no_layer(bench, cells, qtbot, patience):
    bench.choose("slow", steps=1000, step_s=0.02)
    layer = bench.add(cells)
    bench.dock.panel.enhance.click()
    qtbot.wait(400)
    began = time.monotonic()
    bench.dock.panel.cancel.click()
    bench.wait(3000)
    assert time.monotonic() - began < 1.0 * patience
    assert list(bench.viewer.layers) == [layer]
    assert "cancelled" in bench.dock.panel.note.text()
    bench.choose("slow")
    assert len(bench.run()) == 1


def test_an_error_becomes_one_sentence_and_the_traceback_goes_to_the_log(
    bench, cells, said, caplog
):
    bench.choose("slow", trouble="raise")
    layer = bench.add(cells)
    bench.run()
    assert list(bench.viewer.layers) == [layer]
    (message,) = said
    assert message[0] == "error"
    assert "the slow method divides by nothing" in message[1]
    assert "Traceback" in caplog.text
    assert bench.dock.panel.enhance.isEnabled()


def test_warnings_of_the_worker_reach_the_user_through_a_signal(bench, cells, monkeypatch):
    from napari.utils.notifications import notification_manager

    threads = []
    monkeypatch.setattr(
        notification_manager,
        "receive_warning",
        lambda *_: threads.append(threading.current_thread()),
    )
    bench.choose("slow", trouble="warn")
    bench.add(cells)
    assert len(bench.run()) == 1
    assert set(threads) <= {threading.main_thread()}


def test_a_second_run_gives_a_second_layer(bench, cells):
    bench.choose("slow")
    bench.add(cells)
    assert len(bench.run()) == 1
    bench.choose("slow", steps=3)
    assert len(bench.run()) == 1
    assert len(bench.viewer.layers) == 3


def test_without_a_voxel_size_a_method_that_needs_one_says_what_to_do(bench, cells, said):
    bench.choose("blurred")
    bench.add(cells, scale=None)
    assert "?" in bench.dock.form.source.line.text()
    bench.run()
    assert said[-1][0] == "error"
    assert "voxel size in z, y, x is unknown" in said[-1][1]


def test_a_typed_voxel_size_goes_into_the_request_and_onto_both_layers(bench, cells, said):
    bench.choose("blurred")
    layer = bench.add(cells, scale=None)
    for axis, text in zip("ZYX", ("0.5", "0.2", "0.2"), strict=True):
        field = bench.dock.form.source.voxel[axis]
        field.line.setText(text)
        field.line.editingFinished.emit()
    assert bench.dock.request().voxel_size_um == (0.5, 0.2, 0.2)
    assert "(user)" in bench.dock.form.source.line.text()
    (result,) = bench.run()
    np.testing.assert_allclose(layer.scale, (0.5, 0.2, 0.2))
    np.testing.assert_allclose(result.scale, (0.5, 0.2, 0.2))
    assert str(result.units[0]) == "micrometer"
    assert any("voxel size" in text for severity, text in said if severity == "info")


def test_the_line_says_how_the_layer_is_read(bench, cells):
    bench.add(cells)
    assert "Z Y X — 6 × 20 × 24, 0.5 × 0.2 × 0.2 µm (user)" in bench.dock.form.source.line.text()


def test_time_series_run_every_time_point(bench, cells):
    series = np.stack([cells, cells + 7, cells + 9])
    bench.choose("slow")
    bench.add(
        series,
        scale=(1, 0.5, 0.2, 0.2),
        units=("pixel", "um", "um", "um"),
        axis_labels=("t", "z", "y", "x"),
    )
    (result,) = bench.run()
    np.testing.assert_array_equal(result.data, series.astype(np.float32) + 1)
    assert len(result.metadata["zenhance"]["statistics"]) == 3
    np.testing.assert_allclose(result.scale, (1, 0.5, 0.2, 0.2))


def test_one_channel_of_a_layer_with_a_channel_axis(bench, cells):
    both = np.stack([cells, cells + 1000])
    bench.choose("slow")
    bench.add(
        both,
        scale=(1, 0.5, 0.2, 0.2),
        units=("pixel", "um", "um", "um"),
        axis_labels=("c", "z", "y", "x"),
        translate=(0, 1, 2, 3),
    )
    options = bench.dock.form.options
    assert not options.channel.isHidden()
    (all_channels,) = bench.run()
    np.testing.assert_array_equal(all_channels.data, both.astype(np.float32) + 1)
    options.channel.setCurrentIndex(options.channel.findData(1))
    (second,) = bench.run()
    np.testing.assert_array_equal(second.data, both[1].astype(np.float32) + 1)
    np.testing.assert_allclose(second.translate, (1, 2, 3))


def test_axes_typed_by_the_user_count(bench, cells):
    bench.choose("slow")
    bench.add(cells)
    edit = bench.dock.form.source.axes_edit
    edit.setText("tyx")
    edit.editingFinished.emit()
    assert bench.dock.request().axes == "TYX"
    (result,) = bench.run()
    assert len(result.metadata["zenhance"]["statistics"]) == 6
    np.testing.assert_array_equal(result.data, cells.astype(np.float32) + 1)


def test_axes_that_do_not_fit_are_explained(bench, cells, said):
    bench.choose("slow")
    bench.add(cells)
    bench.dock.form.source.axes_edit.setText("QYX")
    bench.dock.form.source.axes_edit.editingFinished.emit()
    assert "#d9534f" in bench.dock.form.source.line.text()
    bench.run()
    assert "axes" in said[-1][1]


def test_layers_in_another_axis_order_get_their_result_in_that_order(bench, cells):
    turned = np.ascontiguousarray(cells.transpose(2, 1, 0))
    bench.choose("slow")
    layer = bench.add(
        turned, scale=(0.2, 0.2, 0.5), axis_labels=("x", "y", "z"), translate=(1, 2, 3)
    )
    (result,) = bench.run()
    np.testing.assert_array_equal(result.data, turned.astype(np.float32) + 1)
    np.testing.assert_allclose(result.translate, layer.translate)
    assert result.metadata["zenhance"]["voxel_size_um"] == [0.5, 0.2, 0.2]


def test_two_dimensional_images_run(bench):
    image = np.arange(20 * 24, dtype=np.uint8).reshape(20, 24)
    bench.choose("slow")
    bench.add(image, scale=(0.2, 0.2))
    (result,) = bench.run()
    np.testing.assert_array_equal(result.data, image.astype(np.float32) + 1)
    assert result.ndim == 2


def test_colour_images_give_their_luminance(bench):
    colours = np.full((20, 24, 3), 50, dtype=np.uint8)
    bench.choose("slow")
    bench.add(colours, rgb=True, scale=(0.2, 0.2))
    assert "luminance" in bench.dock.form.source.line.text()
    (result,) = bench.run()
    assert not result.rgb
    np.testing.assert_allclose(result.data, 51.0, rtol=1e-5)


def test_labels_are_not_offered(bench, cells):
    bench.viewer.add_labels(cells.astype(int), name="labels")
    combo = bench.dock.form.source.combo
    assert [combo.itemText(i) for i in range(combo.count())] == []
    bench.add(cells)
    assert [combo.itemText(i) for i in range(combo.count())] == ["cells"]


def test_without_a_layer_the_click_says_what_to_do(bench, said):
    bench.run()
    assert said == [("error", "there is no image layer to enhance; open a stack first")]


def test_lazily_read_data_run_without_being_copied(bench, cells):
    import dask.array as da

    bench.choose("slow")
    bench.add(da.from_array(cells, chunks=(1, 20, 24)))
    (result,) = bench.run()
    np.testing.assert_array_equal(result.data, cells.astype(np.float32) + 1)


def test_settings_are_saved_and_loaded(bench, cells, tmp_path):
    bench.choose("blurred", steps=5, weight=0.125)
    bench.add(cells)
    bench.dock.form.psf.show_spec("confocal:na=1.1")
    bench.dock.form.device.setCurrentIndex(bench.dock.form.device.findData("cpu"))
    bench.dock.form.options.seed.setValue(11)
    bench.dock.form.options.dtype.setCurrentIndex(1)
    bench.dock.form.options.output.setCurrentIndex(1)
    bench.dock.save_settings(tmp_path / "mine.yaml")
    request = bench.dock.request()
    assert EnhanceRequest.from_yaml((tmp_path / "mine.yaml").read_text()) == request
    bench.choose("slow")
    bench.dock.form.psf.show_spec(None)
    bench.dock.load_settings(tmp_path / "mine.yaml")
    assert bench.dock.request() == request


def test_fields_of_a_settings_file_that_have_no_widget_are_kept_listed_and_can_be_dropped(
    bench, cells, tmp_path
):
    (tmp_path / "cut.yaml").write_text("method: slow\ncrop: [[1, 4], [2, 12], [0, 8]]\n")
    layer = bench.add(cells)
    bench.dock.load_settings(tmp_path / "cut.yaml")
    assert "crop" in bench.dock.form.options.from_file.text()
    (result,) = bench.run()
    np.testing.assert_array_equal(result.data, cells[1:4, 2:12, 0:8].astype(np.float32) + 1)
    np.testing.assert_allclose(result.data_to_world((0, 0, 0)), layer.data_to_world((1, 2, 0)))
    bench.dock.form.options.drop.click()
    assert bench.dock.request().crop is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("method: nothing\n", "no method"),
        ("metod: slow\n", "did you mean"),
        ("- a\n", "not a list of key"),
        ("a: [\n", "not valid YAML"),
    ],
)
def test_settings_files_that_cannot_be_used_are_explained(bench, tmp_path, text, says):
    from zenhance.errors import ZenhanceError

    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ZenhanceError, match=says):
        bench.dock.load_settings(tmp_path / "bad.yaml")


def test_a_missing_settings_file_is_named(bench, tmp_path):
    from zenhance.errors import ReadError

    with pytest.raises(ReadError, match=r'none\.yaml": there is no such file'):
        bench.dock.load_settings(tmp_path / "none.yaml")


def test_the_share_of_the_network_is_a_hidden_layer_below_the_result(bench):
    z, y, _ = np.indices((6, 40, 44))
    light = np.where((y + z) % 13 < 2, 60.0, 4.0)
    bench.choose("srcnn", arbitrate=True)
    bench.add(np.random.default_rng(0).poisson(light).astype(np.uint16) + 100)
    bench.dock.form.psf.show_spec("sigma_um=0.6,0.2,0.2")
    result, share = bench.run()
    assert result.visible
    assert not share.visible
    assert share.data.shape == result.data.shape
    assert share.data.min() >= 0.0
    assert share.data.max() <= 1.0
    assert "network_share" in str(result.metadata["zenhance"]["notes"])
    bench.choose("srcnn")
    assert len(bench.run()) == 1
