"""Progress is a bar on a terminal, plain lines in a log, and silence where JSON is piped."""

from __future__ import annotations

import io
from dataclasses import dataclass

from zenhance.cli.progress import PLAIN_INTERVAL_S, PlainReporter, open_reporter


@dataclass
class Step:
    stage: str
    fraction: float
    seconds_left: float | None = None
    message: str = ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_come_with_each_stage_and_every_few_seconds() -> None:
    stream, now = io.StringIO(), [0.0]
    reporter = PlainReporter(stream, lambda: now[0])
    reporter.update(Step("measure", 0.0))
    reporter.update(Step("enhance", 0.1, 30.0, "tile 1 of 4"))
    reporter.update(Step("enhance", 0.2, 28.0, "tile 1 of 4"))
    now[0] = PLAIN_INTERVAL_S
    reporter.update(Step("enhance", 0.5, 15.0, "tile 3 of 4"))
    assert stream.getvalue().splitlines() == [
        "measure: 0%",
        "enhance (tile 1 of 4): 10%, 30 s left",
        "enhance (tile 3 of 4): 50%, 15 s left",
    ]


def test_a_pipe_gets_plain_lines_and_a_pipe_with_json_gets_none() -> None:
    for json_wanted, expected in ((False, "device\nmeasure: 25%\n"), (True, "")):
        stream = io.StringIO()
        with open_reporter(json_wanted, stream) as reporter:
            reporter.line("device")
            reporter.update(Step("measure", 0.25))
        assert stream.getvalue() == expected


def test_a_terminal_gets_a_bar_with_stage_tile_and_time_left() -> None:
    stream = Terminal()
    with open_reporter(False, stream) as reporter:
        reporter.line("PSF: [file] sigma")
        reporter.update(Step("enhance", 0.5, 70.0, "tile 3 of 4"))
    text = stream.getvalue()
    assert "PSF: [file] sigma" in text
    for part in ("enhance", "50%", "1 min 10 s left", "tile 3 of 4"):
        assert part in text
