"""Pictures at one contrast, and tables that go between markers only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.docs import write_between_markers
from benchmarks.tables import TextTable
from zenhance.assess.before_after import (
    GAP_PX,
    MARGIN_PX,
    TITLE_PX,
    WIDTH_PX,
    Cut,
    before_after,
    standard_cuts,
)
from zenhance.errors import StackError, WriteError


def _column(picture: np.ndarray, number: int, height: int) -> np.ndarray:
    left = MARGIN_PX + number * (WIDTH_PX + GAP_PX)
    return picture[TITLE_PX : TITLE_PX + height, left : left + WIDTH_PX]


def test_all_columns_of_a_row_share_one_contrast() -> None:
    volume = np.random.default_rng(0).uniform(100, 200, (6, 40, 40)).astype(np.float32)
    volume[:, :, 39] = 900.0
    picture = np.asarray(
        before_after({"a": volume, "b": volume - 50, "truth": volume}, (1, 1, 1), (Cut("z", 0, 2),))
    )
    first, second, third = (_column(picture, n, WIDTH_PX).astype(int) for n in range(3))
    middle = (slice(60, 300), slice(100, 300))  # clear of the scale bar
    assert np.array_equal(first[middle], third[middle])
    darker = first[middle] - second[middle]
    assert darker.mean() == pytest.approx(50 / (900 - 50) * 255, abs=2)


def test_an_xz_cut_is_drawn_to_scale() -> None:
    volume = np.zeros((10, 30, 40), np.float32)
    picture = before_after({"a": volume}, (2.0, 0.5, 0.5), (Cut("xz", 1, 15),))
    # 10 planes of 2 µm are as high as 40 columns of 0.5 µm are wide.
    assert picture.size == (MARGIN_PX + WIDTH_PX + GAP_PX, TITLE_PX + WIDTH_PX + GAP_PX)


def test_the_scale_bar_has_the_length_it_says() -> None:
    picture = np.asarray(
        before_after({"a": np.zeros((1, 40, 40), np.float32)}, (1, 1, 1), (Cut("z", 0, 0),))
    )
    bar = _column(picture, 0, WIDTH_PX)[WIDTH_PX - 12]
    assert (bar == 255).sum() == pytest.approx(10 / 40 * WIDTH_PX, abs=1.5)


def test_many_columns_go_below_each_other_at_one_contrast() -> None:
    volume = np.random.default_rng(0).uniform(100, 200, (2, 40, 40)).astype(np.float32)
    volumes = {str(n): volume - 20 * n for n in range(6)}
    picture = np.asarray(before_after(volumes, (1, 1, 1), (Cut("z", 0, 0),)))
    height = TITLE_PX + WIDTH_PX + GAP_PX
    assert picture.shape == (2 * height, MARGIN_PX + 3 * (WIDTH_PX + GAP_PX))
    first, fourth = (
        _column(picture, 0, WIDTH_PX).astype(int),
        _column(picture[height:], 0, WIDTH_PX).astype(int),
    )
    middle = (slice(60, 300), slice(100, 300))
    assert (first[middle] - fourth[middle]).mean() == pytest.approx(60 / (200 - 20) * 255, rel=0.1)


def test_standard_cuts_lie_inside_and_say_where() -> None:
    shallow, deep, xz = standard_cuts((40, 100, 100), 0.5)
    assert 0 <= shallow.index < deep.index < 40
    assert "z = 16.2 um" in deep.title
    assert (xz.axis, xz.index) == (1, 50)


def test_volumes_of_different_shapes_are_refused() -> None:
    with pytest.raises(StackError, match="needs volumes of one shape and at least one cut"):
        before_after(
            {"a": np.zeros((2, 3, 3)), "b": np.zeros((2, 3, 4))}, (1, 1, 1), (Cut("z", 0, 0),)
        )


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- begin a -->\nold\n<!-- end a -->\nafter <!-- begin b --><!-- end b -->\n",
        encoding="utf-8",
    )
    write_between_markers(page, "a", "| new |\n")
    write_between_markers(page, "a", "| newer |\n")
    assert page.read_text(encoding="utf-8") == (
        "before\n<!-- begin a -->\n\n| newer |\n\n<!-- end a -->\nafter <!-- begin b --><!-- end "
        "b -->\n"
    )


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    with pytest.raises(
        WriteError, match="does not exist; run the command at the top of a checkout"
    ):
        write_between_markers(page, "a", "x")
    page.write_text("<!-- end a --> <!-- begin a -->", encoding="utf-8")
    with pytest.raises(WriteError, match='lacks the lines "<!-- begin a -->"'):
        write_between_markers(page, "a", "x")
    assert page.read_text(encoding="utf-8") == "<!-- end a --> <!-- begin a -->"


def test_a_table_becomes_markdown() -> None:
    text = TextTable("t", ("name", "dB"), (("a|b", "1.0"),), ("below",)).markdown()
    assert text == "| name | dB |\n|---|---:|\n| a\\|b | 1.0 |\n\nbelow\n"
