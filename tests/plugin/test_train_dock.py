"""The Train dock with a real viewer: start, curves, preview, Stop, and a model that is used."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from zenhance.models.catalogue import list_weights
from zenhance.models.header import read_card

# Long enough to be stopped by the user, quick enough to validate at once.
WATCHED = {
    "patch_px": 16,
    "batch": 2,
    "steps": 100_000,
    "validate_every": 2,
    "validation_patches": 2,
    "warmup_steps": 1,
    "ema": 0.5,
}
BRIEF = WATCHED | {"steps": 4}


def pair(seed, shape=(5, 40, 56)):
    """Thin random walls, and the same blurred with noise on an offset of 50."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), (2, 4, 4))
    sharp = np.where(np.abs(field) < 0.15 * field.std(), 200.0, 0.0)
    measured = rng.poisson(gaussian_filter(sharp, (0.5, 1.2, 1.2)) / 4) * 4.0 + 50
    return measured.astype(np.float32), (sharp + 50).astype(np.float32)


class TrainBench:
    """A viewer with the Train dock, and two layers to learn from."""

    def __init__(self, viewer, dock, qtbot, told):
        self.viewer, self.dock, self.qtbot, self.told = viewer, dock, qtbot, told
        dock.form.method.setCurrentIndex(dock.form.method.findData("srcnn"))

    def add(self, data, name):
        return self.viewer.add_image(data, name=name, scale=(0.5, 0.2, 0.2), units=("um",) * 3)

    def add_pair(self, seed=0):
        return [
            self.add(data, name)
            for data, name in zip(pair(seed), ("cells", "cells truth"), strict=True)
        ]

    def choose(self, **numbers):
        self.dock.form.numbers.show_settings(numbers)

    def wait(self, limit_ms=30_000):
        self.qtbot.waitUntil(lambda: not self.dock.running, timeout=limit_ms)

    def train(self, **numbers):
        self.choose(**numbers)
        self.dock.panel.start.click()
        self.wait()
        return self.dock.trained


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A home of one's own for models, and a temporary folder that can be looked into."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("ZENHANCE_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path


@pytest.fixture
def make_train_bench(make_napari_viewer, qtbot, monkeypatch, folders):
    from zenhance.plugin import dock_base, train_dock

    told = []
    for module, severity in ((dock_base, "error"), (train_dock, "info")):
        monkeypatch.setattr(
            module,
            f"show_{severity}",
            lambda text, severity=severity: told.append((severity, text)),
        )
    made = []

    def make():
        viewer = make_napari_viewer()
        dock = train_dock.TrainDock(viewer)
        viewer.window.add_dock_widget(dock, name="Train", area="right")
        made.append(TrainBench(viewer, dock, qtbot, told))
        return made[-1]

    yield make
    for bench in made:
        for task in list(bench.dock._tasks):
            task.forget()
        qtbot.waitUntil(
            lambda bench=bench: not any(task.running for task in bench.dock._tasks), timeout=20_000
        )
        # pytest keeps a test's arguments until the end; napari checks before that for leaks.
        bench.viewer = bench.dock = None


@pytest.fixture
def train_bench(make_train_bench):
    return make_train_bench()


def test_a_training_is_watched_stopped_saved_and_its_model_enhances(
    train_bench, make_bench, folders, qtbot, patience
):
    measured, _ = train_bench.add_pair()
    dock, panel = train_bench.dock, train_bench.dock.panel
    train_bench.choose(**WATCHED)
    panel.start.click()
    assert not panel.start.isEnabled()
    qtbot.waitUntil(
        lambda: len(panel.plot.psnr) >= 1 and dock.preview.layer is not None, timeout=40_000
    )
    layer, first, points = dock.preview.layer, dock.preview.layer.data, len(panel.plot.losses)
    # measured | predicted | truth of 16 pixels each, two dark columns between
    assert layer.data.shape == (16, 3 * 16 + 2 * 2)
    assert layer.name == "training srcnn: measured | predicted | truth"
    qtbot.waitUntil(
        lambda: len(panel.plot.losses) >= points + 4 and dock.preview.layer.data is not first,
        timeout=20_000,
    )
    assert dock.preview.layer is layer
    np.testing.assert_array_equal(layer.data[:, :16], first[:, :16])
    assert not np.array_equal(layer.data[:, 18:34], first[:, 18:34])
    assert "untreated" in panel.note.text()
    began = time.monotonic()
    panel.stop.click()
    train_bench.wait()
    assert time.monotonic() - began < 5 * patience
    assert "stopped by the user" in panel.note.text()
    assert panel.start.isEnabled()
    assert list((folders / "temporary").glob("zenhance*")) == []
    assert {entry["name"] for entry in dock.trained.card.data} == {
        "cells, x 0:40",
        "cells, x 40:56",
    }

    panel.name.setText("mine")
    panel.save.click()
    path = folders / "weights" / "mine.safetensors"
    card = read_card(path)
    assert (card.name, card.recipe["name"], card.voxel_size_um) == ("mine", "mine", (0.5, 0.2, 0.2))
    assert not panel.save.isEnabled()
    assert "mine" in panel.card.text()
    assert [entry.name for entry in list_weights("srcnn") if not entry.ships] == ["mine"]

    bench = make_bench()
    bench.choose("srcnn")
    bench.dock.form.weights.show_weights("mine")
    bench.add(np.asarray(measured.data))
    assert bench.dock.request().weights == "mine"
    (result,) = bench.run()
    record = result.metadata["zenhance"]
    assert record["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["request"]["weights"] == "mine"


def test_a_new_model_appears_in_an_enhance_dock_that_is_open(train_bench, make_bench, folders):
    bench = make_bench()
    bench.choose("srcnn")
    weights = bench.dock.form.weights
    before = weights.weights
    train_bench.add_pair()
    train_bench.train(**BRIEF)
    train_bench.dock.panel.name.setText("fresh")
    train_bench.dock.panel.save.click()
    index = weights.combo.findData("fresh")
    assert index > 0
    assert weights.combo.itemText(index) == "fresh (yours)"
    assert "validation PSNR" in weights.combo.itemData(index, 3)
    assert weights.weights == before
    bench.choose("gaussian_deconvolution")
    assert weights.isHidden()
    assert weights.weights is None


def test_a_pair_of_different_shape_gives_one_sentence(train_bench):
    measured, truth = pair(0)
    train_bench.add(measured, "cells")
    train_bench.add(truth[:, :30], "cells truth")
    assert train_bench.train(**BRIEF) is None
    ((severity, text),) = train_bench.told
    assert severity == "error"
    assert text.startswith(
        'the truth of "cells" has shape (5, 30, 56); it must have the measurement\'s (5, 40, 56)'
    )
    assert train_bench.dock.panel.note.text() == text
    assert train_bench.dock.panel.start.isEnabled()


def test_what_cannot_be_trained_is_said_before_it_starts(train_bench):
    dock, layers = train_bench.dock, train_bench.dock.form.data.layers
    dock.panel.start.click()
    measured, truth = train_bench.add_pair()
    assert layers.rows[0].truth.layer is truth
    layers.rows[0].truth.choose(measured)
    dock.panel.start.click()
    layers.rows[0].truth.choose(truth)
    dock.panel.name.setText("../escape")
    dock.panel.start.click()
    assert not dock.running
    assert [text.partition(";")[0] for _, text in train_bench.told] == [
        "row 1 of the training data is not filled in",
        'row 1 pairs the layer "cells" with itself',
        'the model\'s name is "../escape"',
    ]


def test_a_finer_truth_needs_a_recipe_that_enlarges(train_bench):
    measured, truth = pair(0)
    train_bench.add(measured, "cells")
    train_bench.add(np.kron(truth, np.ones((1, 2, 2), np.float32)), "cells truth")
    train_bench.train(**BRIEF)
    assert "has 2 × its pixels along y and x, but this model makes 1 ×" in train_bench.told[0][1]
    form = train_bench.dock.form
    form.start.setCurrentIndex(form.start.findData("srcnn_x2"))
    trained = train_bench.train(**BRIEF)
    assert trained.card.architecture["scale"] == 2
    assert train_bench.dock.preview.layer.data.shape == (32, 3 * 32 + 4)


def test_several_pairs_are_kept_apart_for_validation(train_bench):
    layers = train_bench.dock.form.data.layers
    pairs = [train_bench.add_pair(seed) for seed in range(2)]
    layers.add_row()
    for row, (measured, truth) in zip(layers.rows, pairs, strict=True):
        row.measured.choose(measured)
        row.truth.choose(truth)
    roles = [(entry["name"], entry["role"]) for entry in train_bench.train(**BRIEF).card.data]
    assert sorted(roles) == [("cells", "validation"), ("cells [1]", "train")]
    layers.remove_row(layers.rows[1])
    layers.remove_row(layers.rows[0])
    assert len(layers.rows) == 1


def test_the_files_of_a_folder_are_paired_by_name(train_bench, tmp_path):
    from zenhance.io import write_stack
    from zenhance.stack import Stack

    folder = tmp_path / "pairs"
    folder.mkdir()
    data = train_bench.dock.form.data
    data.kind.setCurrentIndex(data.kind.findData("folder"))
    data.folder.line.setText(str(folder))
    data.folder.look()
    assert "holds no image" in data.folder.found.text()
    for seed in range(2):
        for ending, pixels in zip(("", "_truth"), pair(seed), strict=True):
            write_stack(
                folder / f"plant_{seed}{ending}.ome.tif",
                Stack.from_array(pixels, "ZYX", (0.5, 0.2, 0.2)),
            )
    data.folder.look()
    assert data.folder.found.text() == "2 pairs found"
    card = train_bench.train(**BRIEF).card
    assert {entry["role"]: entry["name"] for entry in card.data} == {
        "validation": "plant_0.ome.tif",
        "train": "plant_1.ome.tif",
    }


def test_stop_while_the_data_are_prepared_leaves_no_model_and_says_so(train_bench, folders, qtbot):
    data, panel = train_bench.dock.form.data, train_bench.dock.panel
    data.kind.setCurrentIndex(data.kind.findData("simulated"))
    panel.start.click()
    qtbot.waitUntil(lambda: "meristem" in panel.note.text(), timeout=20_000)
    panel.stop.click()
    train_bench.wait()
    assert panel.note.text() == "stopped before the first step; there is no model"
    assert not panel.save.isEnabled()
    assert list((folders / "temporary").glob("zenhance*")) == []


def test_closing_the_viewer_ends_the_training_quickly_and_leaves_nothing(
    make_train_bench, folders, qtbot, patience
):
    bench = make_train_bench()
    bench.add_pair()
    bench.choose(**WATCHED)
    bench.dock.panel.start.click()
    qtbot.waitUntil(lambda: len(bench.dock.panel.plot.losses) > 2, timeout=40_000)
    (task,) = list(bench.dock._tasks)
    bench.viewer.close()
    began = time.monotonic()
    qtbot.waitUntil(lambda: not task.running, timeout=10_000)
    assert time.monotonic() - began < 3.0 * patience
    assert bench.told == []
    assert list((folders / "temporary").glob("zenhance*")) == []


def test_models_are_replaced_and_lost_only_when_the_user_says_so(train_bench, folders, monkeypatch):
    train_bench.add_pair()
    dock, panel = train_bench.dock, train_bench.dock.panel
    asked = []
    answer = [False]
    monkeypatch.setattr(type(dock), "ask", lambda _, question: asked.append(question) or answer[0])
    train_bench.train(**BRIEF)
    panel.name.setText("mine")
    panel.save.click()
    kept = (folders / "weights" / "mine.safetensors").read_bytes()
    second = train_bench.train(**BRIEF, seed=1)
    assert asked == []
    assert panel.name.text() == "mine_2"
    panel.name.setText("mine")
    panel.save.click()
    assert asked == ['There is a model "mine" already. Replace it?']
    assert (folders / "weights" / "mine.safetensors").read_bytes() == kept
    panel.start.click()
    assert asked[1:] == [
        "The model that was just trained is not saved. Train again and discard it?"
    ]
    assert not dock.running
    assert dock.trained is second
    answer[0] = True
    panel.save.click()
    assert (folders / "weights" / "mine.safetensors").read_bytes() != kept


OPENING = """
import sys, time
import napari
viewer = napari.Viewer(show=False)
began = time.process_time()
from zenhance.plugin.train_dock import TrainDock
dock = TrainDock(viewer)
viewer.window.add_dock_widget(dock)
print("seconds", time.process_time() - began)
print("torch", "torch" in sys.modules)
viewer.close()
"""


def test_opening_the_train_dock_does_not_import_torch(make_napari_viewer):
    # The viewer's fixture stands for the display that the child process needs. Processor time is
    # measured because others share this machine.
    done = subprocess.run(
        [sys.executable, "-c", OPENING], capture_output=True, text=True, timeout=120, check=True
    )
    assert "torch False" in done.stdout
    assert float(done.stdout.split("seconds")[1].split()[0]) < 1.5
