"""Generators that work in steps: run one to its end, or rescale its steps and pass them on.

A long computation is a generator: each yield is a point where it can be cancelled, and its return
value is the result::

    result = drain(steps)
    result = yield from relay(steps, lambda fraction: 0.2 + 0.8 * fraction, check=run.check)
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

__all__ = ["drain", "relay"]

In = TypeVar("In")
Out = TypeVar("Out")
Result = TypeVar("Result")


def drain(steps: Generator[In, None, Result], on_step: Callable[[In], Any] | None = None) -> Result:
    """Run a generator to its end and return what it returns.

    Parameters
    ----------
    steps : generator
        The computation. It is closed when ``on_step`` raises.
    on_step : callable, optional
        Called with each value that the generator yields.
    """
    try:
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
            if on_step is not None:
                on_step(step)
    finally:
        steps.close()


def relay(
    steps: Generator[In, None, Result],
    convert: Callable[[In], Out],
    check: Callable[[], Any] | None = None,
) -> Generator[Out, None, Result]:
    """Yield the converted steps of a generator and return what it returns.

    Parameters
    ----------
    steps : generator
        The computation. It is closed when this generator is closed or ``check`` raises.
    convert : callable
        Maps each step of ``steps`` to the step to yield.
    check : callable, optional
        Called before each step; it raises to cancel the computation.
    """
    try:
        while True:
            if check is not None:
                check()
            try:
                step = next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
            yield convert(step)
    finally:
        steps.close()
