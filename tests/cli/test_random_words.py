"""Any input is answered by one sentence and an exit code of the table, never by a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from zenhance.cli.app import app
from zenhance.errors import FailureKind

# Nothing is computed: the input does not exist, so what is accepted ends as an unreadable file.
TABLE = {0, 2, 3}
DIGITS = "9" * 5000
DEEP = "[" * 3000
KEYS = st.sampled_from(["iterations", "variant", "tv_weight", "stop", "dimensions", "qqq", ""])
VALUES = st.one_of(
    st.text(max_size=40),
    st.integers().map(str),
    st.floats().map(repr),
    st.sampled_from(
        [
            DIGITS, f"-{DIGITS}", f"0.{DIGITS}", f"1e{DIGITS}", f"0x{DIGITS}", f"0b{'1' * 9000}",
            f"1:{DIGITS}", DEEP, "{" * 500, "&a [*a, *a]", "!!python/name:os.system", "2026-13-45",
            "0001-01-01 99:99:99", "{1: 2, [3]: 4}", "? [a]", "!!binary x", "!!timestamp x", "\x00",
            "!!int x", "!!float x", "!!set {a}", "!!omap [a]", "<<: 1", "{<<: [1, 2]}", "\udcff",
            "\ud800",
            "1_" * 3000, "=", "~", ".inf", ".nan", "%YAML 9.9", "--- a\n--- b",
        ]
    ),
)  # fmt: skip
OPTIONS = st.sampled_from(
    [
        "--voxel-size", "--axes", "--channel", "--crop", "--series", "--psf", "--background",
        "--statistics", "--device", "--tile", "--weights", "--learn", "--output", "--seed",
        "--dtype", "--method",
    ]
)  # fmt: skip


def answer(*words: str) -> tuple[int, dict[str, Any]]:
    """Run a command with --json; return its exit code and record, after checking the sentence."""
    result = CliRunner().invoke(app, [words[0], "--json", *words[1:]])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    record = json.loads(result.stdout)
    if result.exit_code:
        assert record["exit_code"] == result.exit_code
        assert record["kind"] != str(FailureKind.BUG), record["error"]
        assert "\n" not in record["error"]
        assert len(record["error"]) <= 700
    return result.exit_code, record


PROPERTY = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@PROPERTY
@given(key=KEYS, value=VALUES)
@example(key="iterations", value=DIGITS)
@example(key="iterations", value=DEEP)
@example(key="iterations", value="2026-13-45")
def test_any_setting_is_answered_by_a_sentence(key: str, value: str) -> None:
    code, _ = answer("enhance", "gone.tif", "out.ome.tif", "--set", f"{key}={value}")
    assert code in TABLE


@PROPERTY
@given(option=OPTIONS, value=VALUES)
@example(option="--seed", value=DIGITS)
@example(option="--crop", value=f"0:{DIGITS},:,:")
@example(option="--psf", value=f"sigma_um={DIGITS}")
@example(option="--psf", value=f"measured:{DIGITS}")
def test_any_value_of_any_option_is_answered_by_a_sentence(option: str, value: str) -> None:
    code, _ = answer("enhance", "gone.tif", "out.ome.tif", f"{option}={value}")
    assert code in TABLE | {4}


@PROPERTY
@given(word=st.one_of(VALUES, st.text(max_size=300)))
@example(word="a" * 5000)
@example(word="/dev/null")
@example(word="-.")
def test_any_file_name_is_answered_by_a_sentence(word: str) -> None:
    code, _ = answer("info", "--", word)
    assert code in {2, 3}


@PROPERTY
@given(text=st.one_of(VALUES, st.text(max_size=200)))
@example(text=f"method: identity\nseed: {DIGITS}")
@example(text=f"settings: {DEEP}")
@example(text="seed: 2026-13-45")
@example(text="a: &a [x]\nb: [*a, *a]")
def test_any_settings_file_is_answered_by_a_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    code, _ = answer("enhance", "gone.tif", "out.ome.tif", "--request", str(file))
    assert code in TABLE


@pytest.mark.parametrize("command", ["sample", "methods", "simulate", "train", "weights"])
def test_a_name_of_any_length_is_quoted_shortly(command: str, tmp_path: Path) -> None:
    rest = [str(tmp_path / "out")] if command in ("sample", "simulate") else []
    code, record = answer(command, "q" * 100_000, *rest)
    assert code == 2
    assert len(record["error"]) < 700
