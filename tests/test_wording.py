"""Hints, sizes and durations as messages state them."""

from __future__ import annotations

import pytest

from zenhance.wording import format_bytes, format_seconds, hint_for, quoted


def test_a_misspelt_name_is_answered_with_the_nearest_and_a_strange_one_with_the_choices() -> None:
    known = ("iterations", "variant")
    assert hint_for("iteration", known) == 'did you mean "iterations"?'
    assert hint_for("qqq", known) == "choose one of iterations, variant"
    assert hint_for("qqq", known, "ask someone") == "ask someone"
    many = [f"setting_number_{n:02d}" for n in range(50)]
    said = hint_for("qqq", many)
    assert len(said) < 220
    assert said.endswith(" and 42 more")
    assert hint_for("variant" + "x" * 10**6, known) == "choose one of iterations, variant"


def test_quoted_input_fits_into_a_sentence() -> None:
    assert quoted("a" * 60) == f'"{"a" * 60}"'
    assert quoted("a" * 61) == f'"{"a" * 57}..."'


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1 kB"),
        (4_096, "4.1 kB"),
        (11_000_000, "11 MB"),
        (999_900_000, "1 GB"),
        (1_234_000_000, "1.23 GB"),
        (5e12, "5 TB"),
    ],
)
def test_bytes_have_three_digits_and_the_largest_unit_below_them(count: float, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text", "rough"),
    [
        (0.2, "0.2 s", "1 s"),
        (9.96, "10 s", "10 s"),
        (42.4, "42 s", "42 s"),
        (59.6, "1 min 00 s", "60 s"),
        (89.6, "1 min 30 s", "1 min"),
        (200, "3 min 20 s", "3 min"),
        (3599.7, "1 h 00 min", "60 min"),
        (7800, "2 h 10 min", "2 h 10 min"),
    ],
)
def test_durations_are_exact_when_measured_and_rough_when_estimated(
    seconds: float, text: str, rough: str
) -> None:
    assert format_seconds(seconds) == text
    assert format_seconds(seconds, rough=True) == rough
