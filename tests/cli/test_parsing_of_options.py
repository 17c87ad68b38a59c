"""Options become values, or one sentence with the option, its value and how to write it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zenhance.cli.parsing import (
    parse_axes,
    parse_crop,
    parse_number,
    parse_settings,
    parse_tile,
    parse_voxel_size,
    parse_whole,
)
from zenhance.errors import ZenhanceError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5,0.2,0.2", (0.5, 0.2, 0.2)),
        ("0.2,0.1", (0.2, 0.1)),
        (" 1 , .5 , 5e-1 ", (1.0, 0.5, 0.5)),
        ("0.5,?,?", (0.5, None, None)),
    ],
)
def test_voxel_size_is_read_as_micrometres(text: str, expected: tuple[float | None, ...]) -> None:
    assert parse_voxel_size(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:20,100:356,5:256", ((0, 20), (100, 356), (5, 256))),
        (":,:,:", ((None, None),) * 3),
        ("3:,:7", ((3, None), (None, 7))),
    ],
)
def test_crop_is_read_with_open_ends(
    text: str, expected: tuple[tuple[int | None, int | None], ...]
) -> None:
    assert parse_crop(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("zyx", "ZYX"), (" TZCYX ", "TZCYX"), ("YX", "YX"), ("XYZ", "XYZ")]
)
def test_axes_are_read_in_either_case_and_keep_the_files_order(text: str, expected: str) -> None:
    assert parse_axes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("32,256,256", (32, 256, 256)), ("64,128", (1, 64, 128))]
)
def test_tile_of_two_numbers_is_one_plane(text: str, expected: tuple[int, int, int]) -> None:
    assert parse_tile(text) == expected


def test_settings_are_read_as_yaml_values() -> None:
    words = [
        "iterations=10",
        "tv_weight=1e-3",
        "acceleration=false",
        "stop=null",
        "variant=wiener",
        "list=[1, 2]",
        "text=a=b",
        "empty=",
    ]
    assert parse_settings(words) == {
        "iterations": 10,
        "tv_weight": "1e-3",
        "acceleration": False,
        "stop": None,
        "variant": "wiener",
        "list": [1, 2],
        "text": "a=b",
        "empty": None,
    }


def test_settings_cannot_name_a_python_object() -> None:
    with pytest.raises(ZenhanceError, match=r'--set "x".* not valid YAML'):
        parse_settings(["x=!!python/object/apply:os.getcwd []"])


REFUSALS: list[tuple[Callable[[Any], Any], Any, str]] = [
    (
        parse_voxel_size,
        "0.5,abc,0.2",
        r'--voxel-size is "0.5,abc,0.2", allowed are three numbers above 0.* --voxel-size '
        r"0.5,0.2,0.2",
    ),
    (parse_voxel_size, "0,1,1", r'--voxel-size is "0,1,1", allowed .* above 0'),
    (parse_voxel_size, "-1,1,1", r'--voxel-size is "-1,1,1"'),
    (parse_voxel_size, "nan,1,1", r'--voxel-size is "nan,1,1"'),
    (parse_voxel_size, "inf,1", r'--voxel-size is "inf,1"'),
    (parse_voxel_size, "1", r'--voxel-size is "1"'),
    (parse_voxel_size, "1,1,1,1", r'--voxel-size is "1,1,1,1"'),
    (parse_voxel_size, "", r'--voxel-size is ""'),
    (
        parse_axes,
        "ZZYX",
        r'--axes is "ZZYX", allowed are the letters T, C, Z, Y and X.* --axes ZYX',
    ),
    (parse_axes, "ZX", r'--axes is "ZX", .*Y and X among them'),
    (parse_axes, "QYX", r'--axes is "QYX"'),
    (
        parse_crop,
        "0:10",
        r'--crop is "0:10", allowed are three ranges start:stop.* z0:z1,y0:y1,x0:x1',
    ),
    (parse_crop, "0:10,5:5,0:1", r'--crop is "0:10,5:5,0:1"'),
    (parse_crop, "-3:10,0:5,0:1", r'--crop is "-3:10,0:5,0:1"'),
    (parse_crop, "0-10,0-5,0-3", r'--crop is "0-10,0-5,0-3"'),
    (parse_crop, "a:b,0:1,0:1", r'--crop is "a:b,0:1,0:1"'),
    (parse_tile, "0,1,1", r'--tile is "0,1,1", allowed are three whole numbers above 0'),
    (parse_tile, "1e9", r'--tile is "1e9"'),
    (parse_tile, "None", r'--tile is "None"'),
    (parse_settings, ["iterations"], r'--set is "iterations", allowed is key=value'),
    (parse_settings, ["=3"], r'--set is "=3", allowed is key=value'),
    (parse_settings, ["a=1", "a=2"], r'--set gives "a" twice'),
    (parse_settings, ["a=[1, 2"], r'--set "a", "\[1, 2": not valid YAML'),
    (
        lambda text: parse_whole("--channel", text),
        "-1",
        r'--channel is "-1", allowed are whole numbers from 0',
    ),
    (lambda text: parse_whole("--seed", text), "1.5", r'--seed is "1.5"'),
    (
        lambda text: parse_whole("--seed", text),
        str(2**63),
        r"--seed is .*allowed are whole numbers from 0 to 9223372036854775807",
    ),
    (
        lambda text: parse_number("--background", text),
        "nan",
        r'--background is "nan", allowed is a finite number',
    ),
    (lambda text: parse_number("--background", text), "dark", r'--background is "dark"'),
]


@pytest.mark.parametrize(("parse", "text", "pattern"), REFUSALS)
def test_a_refusal_is_one_short_sentence_with_the_option_and_the_value(
    parse: Callable[[Any], Any], text: Any, pattern: str
) -> None:
    with pytest.raises(ZenhanceError) as caught:
        parse(text)
    assert re.search(pattern, str(caught.value))
    assert len(str(caught.value)) <= 240
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "parse",
    [
        parse_voxel_size,
        parse_axes,
        parse_crop,
        parse_tile,
        lambda t: parse_settings([t]),
        lambda t: parse_whole("--seed", t),
    ],
)
@given(text=st.text(max_size=300))
def test_any_text_gives_a_value_or_a_short_sentence(parse: Callable[[str], Any], text: str) -> None:
    try:
        parse(text)
    except ZenhanceError as error:
        assert len(str(error)) <= 240
