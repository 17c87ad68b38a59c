"""The program ``zenhance``: its commands, its version and its help."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

import typer

from zenhance._version import __version__
from zenhance.cli.advise import advise
from zenhance.cli.assess import assess
from zenhance.cli.cite import cite
from zenhance.cli.compare import compare
from zenhance.cli.demo import demo
from zenhance.cli.doctor import doctor
from zenhance.cli.enhance import enhance
from zenhance.cli.errors import Gate
from zenhance.cli.info import info
from zenhance.cli.methods import methods
from zenhance.cli.probe import probe
from zenhance.cli.sample import sample
from zenhance.cli.segment_check import segment_check
from zenhance.cli.simulate import simulate
from zenhance.cli.train import train
from zenhance.cli.verify import verify
from zenhance.cli.weights import weights

__all__ = ["app", "command"]

COMMANDS = (
    enhance, methods, info, advise, compare, assess, probe, segment_check, train, weights, sample,
    simulate, verify, cite, doctor, demo,
)  # fmt: skip

app = typer.Typer(
    name="zenhance",
    cls=Gate,
    help="Enhance confocal z-stacks and say how far to believe the result.",
    epilog=(
        "Start with: zenhance sample NAME stack.ome.tif, "
        "then: zenhance enhance stack.ome.tif better.ome.tif"
    ),
    add_completion=False,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    rich_markup_mode=None,
)


@cache
def command() -> Any:
    """Return the parser with all commands."""
    return typer.main.get_command(app)


@app.callback()
def root(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            help="Also print the traceback of an error; default off. May stand anywhere.",
        ),
    ] = False,
) -> None:
    """Enhance confocal z-stacks and say how far to believe the result."""
    del debug  # the gate reads it from the words, because it must also hold for parser errors
    if show_version:
        print(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit


for _command in COMMANDS:
    app.command()(_command)
