"""The parts of the Train dock: curves, preview, numbers, the model's name, foreign weights."""

from __future__ import annotations

import numpy as np
import pytest

from zenhance.errors import OutputExistsError, RecipeError
from zenhance.models.header import Card, read_card
from zenhance.plugin.loss_plot import LossPlot, smoothed
from zenhance.plugin.model_choice import card_html, card_line
from zenhance.plugin.model_store import check_name, free_name, model_path, renamed, save_model
from zenhance.plugin.train_preview import TrainPreview, side_by_side
from zenhance.training.recipe import Recipe, load_recipe

CARD = Card(
    method="srcnn",
    name="first",
    description="Cells.",
    version="0.1",
    recipe={"name": "first", "seed": 3},
    data=({"name": "a", "role": "train"}, {"name": "a", "role": "validation"}),
    voxel_size_um=(0.5, 0.2, 0.2),
    metrics={"psnr_db": 24.25, "psnr_identity_db": 20.04, "ssim": 0.8},
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ZENHANCE_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path


def checkpoint():
    from safetensors.numpy import save

    from zenhance.models.header import CARD_KEY

    return save({"network.w": np.arange(3, dtype=np.float32)}, metadata={CARD_KEY: CARD.to_json()})


def test_the_thick_line_is_the_running_mean_without_its_start_up_bias():
    # memory 1/2: the mean is (1/4 · 4 + 1/2 · 1), the weights 3/4
    assert smoothed([(1, 4.0)], 0.5) == [(1, 4.0)]
    assert smoothed([(1, 4.0), (2, 1.0)], 0.5) == [
        (1, 4.0),
        (2, pytest.approx((0.25 * 4 + 0.5 * 1) / 0.75)),
    ]
    assert [y for _, y in smoothed([(i, 7.0) for i in range(50)])] == pytest.approx([7.0] * 50)


def painted(plot, colour):
    """Count pixels of about this colour."""
    picture = plot.grab().toImage()
    pixels = [
        picture.pixelColor(x, y)
        for x in range(45, picture.width() - 45)
        for y in range(22, picture.height() - 20)
    ]
    wanted = np.array([colour.red(), colour.green(), colour.blue()])
    found = np.array([[p.red(), p.green(), p.blue()] for p in pixels])
    return int((np.abs(found - wanted).max(axis=1) < 25).sum())


def test_the_plot_draws_loss_and_validation_and_stays_empty_before(qtbot):
    from zenhance.plugin.loss_plot import LOSS, PSNR

    plot = LossPlot()
    qtbot.addWidget(plot)
    plot.resize(300, 160)
    assert (painted(plot, LOSS), painted(plot, PSNR)) == (0, 0)
    losses = tuple((i, 1.0 / i) for i in range(1, 50))
    plot.show_curves(losses, ())
    assert painted(plot, LOSS) > 100
    assert painted(plot, PSNR) == 0
    plot.show_curves(
        losses,
        (
            (20, {"psnr_db": 20.0, "psnr_identity_db": 18.0}),
            (40, {"psnr_db": 22.0, "psnr_identity_db": 18.0}),
        ),
    )
    assert painted(plot, PSNR) > 100
    assert plot.untreated_db == 18.0
    plot.show_curves(losses, ((20, {"loss": 0.3}), (40, {"loss": 0.1})))
    assert (plot.psnr, plot.check_losses) == ([], [(20.0, 0.3), (40.0, 0.1)])
    plot.clear()
    assert painted(plot, LOSS) == 0


@pytest.mark.parametrize("value", [0.0, 1e-30, 5.0])
def test_a_single_or_constant_point_can_be_drawn(qtbot, value):
    plot = LossPlot()
    qtbot.addWidget(plot)
    plot.show_curves(((1, value),), ((1, {"psnr_db": value}),))
    plot.grab()


def test_pictures_stand_side_by_side_the_coarse_one_enlarged():
    preview = {
        "truth": np.full((4, 4), 3.0),
        "measured": np.array([[1.0, 2.0], [3.0, 4.0]]),
        "predicted": np.full((4, 4), 2.0),
    }
    row = side_by_side(preview)
    assert row.shape == (4, 4 + 2 + 4 + 2 + 4)
    np.testing.assert_array_equal(
        row[:, :4], [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    )
    np.testing.assert_array_equal(row[0, 4:], [0, 0, 2, 2, 2, 2, 0, 0, 3, 3, 3, 3])


def test_the_preview_stands_beside_the_stack_and_leaves_the_selection_alone(make_napari_viewer):
    viewer = make_napari_viewer()
    stack = viewer.add_image(np.zeros((3, 40, 60)), scale=(0.5, 0.2, 0.2), units=("um",) * 3)
    shown = TrainPreview(viewer)
    pictures = {"measured": np.zeros((8, 8)), "predicted": np.zeros((8, 8))}
    shown.show(pictures, "srcnn")
    layer = shown.layer
    assert viewer.layers.selection.active is stack
    assert layer.extent.world[0, 1] > stack.extent.world[1, 2]
    # half as high as the stack, which is 40 rows of 0.2 µm
    assert 8 * layer.scale[0] == pytest.approx(0.5 * (40 - 1) * 0.2, rel=0.05)
    viewer.layers.remove(layer)
    shown.show({name: picture + 1 for name, picture in pictures.items()}, "srcnn")
    assert list(viewer.layers) == [stack]
    shown.begin()
    shown.show(pictures, "srcnn")
    assert len(viewer.layers) == 2


def test_the_numbers_of_the_form_are_those_of_the_recipe(make_napari_viewer):
    from zenhance.plugin.train_form import _ELSEWHERE, TrainForm, TrainNumbers

    assert set(TrainNumbers.model_fields) | set(_ELSEWHERE) == set(Recipe.model_fields)
    viewer = make_napari_viewer()
    form = TrainForm(viewer)
    viewer.window.add_dock_widget(form)
    form.data.kind.setCurrentIndex(form.data.kind.findData("simulated"))
    form.method.setCurrentIndex(form.method.findData("srcnn"))
    form.start.setCurrentIndex(form.start.findData("srcnn_filaments"))
    shipped = load_recipe("srcnn_filaments")
    made = form.recipe("mine")
    changed = {"name", "minutes", "validate_every", "patience", "validation_patches"}
    assert made.model_dump(exclude=changed) == shipped.model_dump(exclude=changed)
    assert made.minutes == 10.0
    assert made.validate_every <= 100
    assert made.patience * made.validate_every >= shipped.patience * shipped.validate_every
    form.numbers.show_settings(
        {"patch_px": 24, "batch": 3, "learning_rate": 0.0025, "precision": "float32"}
    )
    assert (
        form.recipe("mine").patch_px,
        form.recipe("mine").batch,
        form.recipe("mine").learning_rate,
    ) == (24, 3, 0.0025)
    form.method.setCurrentIndex(form.method.findData("rdn"))
    assert form.start.currentData() == "rdn_stack"
    assert form.recipe("mine").architecture == load_recipe("rdn_stack").architecture


def test_only_methods_that_learn_are_offered():
    from zenhance.plugin.train_form import learning_methods

    assert {"srcnn", "rdn"} <= set(learning_methods())
    assert not {"gaussian_deconvolution", "identity"} & set(learning_methods())


def test_a_method_that_learns_from_measurements_alone_asks_for_no_truth(make_napari_viewer):
    from zenhance.plugin.train_data import TrainData

    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((3, 20, 20)), name="cells")
    data = TrainData(viewer)
    viewer.window.add_dock_widget(data)
    data.show_method("alone", "own_stack", None)
    assert data.layers.rows[0].truth.isHidden()
    assert data.data(None).stacks == ("cells",)
    ((measured, truth),) = [(pair.measured, pair.truth) for pair in data.layers.snapshots()]
    assert (measured.stack().shape, truth) == ((3, 20, 20), None)
    data.kind.setCurrentIndex(data.kind.findData("simulated"))
    with pytest.raises(
        RecipeError, match="the recipe to start from simulates nothing; choose another one"
    ):
        data.data(None)
    data.kind.setCurrentIndex(data.kind.findData("folder"))
    with pytest.raises(RecipeError, match=r"no folder is chosen; choose one with files NAME.tif$"):
        data.data(None)


def test_a_renamed_model_keeps_every_weight(home):
    from safetensors.numpy import load

    card = save_model(checkpoint(), CARD, "second")
    assert (card.name, card.recipe) == ("second", {"name": "second", "seed": 3})
    assert card.model_copy(update={"name": "first", "recipe": CARD.recipe}) == CARD
    np.testing.assert_array_equal(load(model_path("second").read_bytes())["network.w"], [0, 1, 2])
    assert renamed(checkpoint(), CARD, "first") == checkpoint()
    assert free_name("second") == "second_2"
    with pytest.raises(OutputExistsError):
        save_model(checkpoint(), CARD, "second")


@pytest.mark.parametrize("name", ["", "../up", "a b", "-dash", "x" * 101, "a\nb"])
def test_a_name_that_is_no_file_name_is_refused(home, name):
    with pytest.raises(
        RecipeError,
        match="(?s)the model's name is .*; use at most 100 letters, digits, dots, dashes and ",
    ):
        check_name(name, "srcnn")


def test_a_model_that_ships_cannot_be_taken_over(home, monkeypatch):
    from zenhance.models.catalogue import WeightsEntry
    from zenhance.plugin import model_store

    monkeypatch.setattr(
        model_store, "list_weights", lambda method: (WeightsEntry("srcnn_stack", home, CARD, True),)
    )
    with pytest.raises(
        RecipeError,
        match='the name "srcnn_stack" belongs to a model that comes with zenhance; choose',
    ):
        check_name("srcnn_stack", "srcnn")


def test_the_card_is_told_in_words_and_a_stranger_cannot_put_markup_into_it():
    assert (
        card_line(CARD) == "validation PSNR 24.2 dB (untreated 20.0 dB), SSIM 0.800; "
        "voxels 0.5 × 0.2 × 0.2 µm (z y x)"
    )
    html = card_html(
        CARD.model_copy(update={"description": '<img src="http://evil">', "name": "<b>x"})
    )
    assert "<img" not in html
    assert html.startswith("<b>&lt;b&gt;x</b> (srcnn)<br>&lt;img")
    assert "trained on 1 volume (a); validated on the same" in html


def test_the_list_of_weights_takes_files_and_names_what_cannot_be_used(home, qtbot):
    from zenhance.plugin.model_choice import WeightsChoice

    save_model(checkpoint(), CARD, "mine")
    choice = WeightsChoice()
    qtbot.addWidget(choice)
    choice.show_method("srcnn")
    choice.show_weights("mine")
    assert choice.card.text() == f"Cells.\n{card_line(read_card(model_path('mine')))}"
    pickle = home / "evil.safetensors"
    pickle.write_bytes(b"\x80\x04evil....")
    choice.show_weights(str(pickle))
    assert choice.weights == str(pickle)
    assert "is a Python pickle and could run programs" in choice.card.text()
    choice.show_weights("gone")
    assert (choice.weights, choice.combo.currentText()) == ("gone", "gone")
    assert 'there are no weights "gone" for srcnn' in choice.card.text()
    choice.refresh()
    assert choice.weights == "gone"
    choice.show_method("rdn")
    assert choice.weights is None
    choice.show_weights(str(model_path("mine")))
    assert choice.card.text() == "this model belongs to the method srcnn, not to rdn"
    choice.show_weights(None)
    assert choice.weights is None


def test_docks_of_the_package_share_one_place(make_napari_viewer, qtbot):
    from qtpy.QtWidgets import QDockWidget, QWidget

    from zenhance.plugin.dock_base import DockBase

    viewer = make_napari_viewer()
    first, second, foreign = DockBase(viewer), DockBase(viewer), QWidget()
    first.lay_out(QWidget())
    second.lay_out(QWidget())
    docks = [
        viewer.window.add_dock_widget(widget, name=name, area="right")
        for widget, name in ((foreign, "f"), (first, "1"), (second, "2"))
    ]
    window = docks[0].parent()
    qtbot.waitUntil(lambda: window.tabifiedDockWidgets(docks[2]) == [docks[1]], timeout=5000)
    assert all(isinstance(dock, QDockWidget) for dock in docks)
    assert window.tabifiedDockWidgets(docks[0]) == []
