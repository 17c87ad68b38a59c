"""What a run would do: device, tiles, memory, and the time measured on one small block.

Planning looks for a GPU and measuring runs the method, so both happen in a worker. Edits in quick
succession cause one plan.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from zenhance.pipeline import EnhanceRequest, Progress, RunPlan, estimate_steps, plan_run
from zenhance.plugin.task import Outcome, Steps, Task, busy
from zenhance.stack import Stack

__all__ = ["RunEstimate"]

# Long enough to type a number of several digits.
QUIET_MS = 800
# The background is estimated on evenly spaced planes with at most this many voxels in total.
BACKGROUND_VOXELS = 2_000_000
MAX_PLANES = 8


def _plan_steps(stack: Stack, request: EnhanceRequest) -> Steps:
    yield Progress("plan", 0.0, None, "planning")
    return plan_run(stack, request)


def _background_steps(stack: Stack) -> Steps:
    """Estimate the background of the first volume from a few planes; a run uses more of them."""
    from zenhance.physics.noise import estimate_background

    depth, height, width = stack.volume_shape
    count = max(1, min(depth, MAX_PLANES, BACKGROUND_VOXELS // (height * width)))
    planes = []
    for z in sorted({round(i) for i in np.linspace(0, depth - 1, count)}):
        plane = stack.read(0, 0, (slice(z, z + 1), slice(None), slice(None))).astype(np.float32)
        if np.isfinite(plane).all():
            planes.append(plane)
        yield Progress("background", z / depth, None, "estimating the background")
    return float(estimate_background(np.concatenate(planes))) if planes else None


class RunEstimate(QObject):
    """Plans and times the form's request, shortly after the last edit.

    Parameters
    ----------
    ask : callable
        Returns the stack and the request, or None if there is nothing to plan.
    """

    planned = Signal(object)
    background_found = Signal(float)
    timed = Signal(float)
    failed = Signal(str)

    def __init__(
        self, ask: Callable[[], tuple[Stack, EnhanceRequest] | None], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._ask = ask
        self._task: Task | None = None
        self._held = False
        self._seconds: dict[str, float] = {}
        self.planned_key = ""
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(QUIET_MS)
        self._timer.timeout.connect(self._plan)
        self._waiting: Callable[[], None] | None = None
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.setInterval(QUIET_MS)
        self._patience.timeout.connect(self._look_again)

    @property
    def task(self) -> Task | None:
        """The present worker, if any."""
        return self._task

    def remember_time(self, key: str, seconds: float) -> None:
        """Remember how long a run took, for the next identical request."""
        if key:
            self._seconds[key] = seconds

    def request(self) -> None:
        """Plan soon, in place of a plan in progress."""
        self.planned_key = ""
        self.stop()
        if not self._held:
            self._timer.start()

    def stop(self) -> None:
        """Give up the plan in progress."""
        self._timer.stop()
        self._patience.stop()
        self._waiting = None
        if self._task is not None:
            self._task.forget()
            self._task = None

    def hold(self, held: bool) -> None:
        """Do not plan during a run, which needs the same device."""
        self._held = held
        if held:
            self.stop()
        else:
            self.request()

    def _plan(self) -> None:
        asked = self._ask()
        if asked is None:
            return
        stack, request = asked
        self._start(
            lambda _: _plan_steps(stack, request),
            lambda outcome: self._show_plan(outcome, stack, request),
            exclusive=False,
        )

    def _show_plan(self, outcome: Outcome, stack: Stack, request: EnhanceRequest) -> None:
        plan: RunPlan | None = outcome.value
        if plan is None:
            if outcome.failure:
                self.failed.emit(outcome.failure)
            return
        self.planned.emit(plan)
        self._when_idle(lambda: self._measure(plan, stack, request))

    def _when_idle(self, measure: Callable[[], None]) -> None:
        """Measure now, or after any run in this or another window."""
        if busy():
            self._waiting = measure
            self._patience.start()
        else:
            self._waiting = None
            measure()

    def _look_again(self) -> None:
        if self._waiting is not None:
            self._when_idle(self._waiting)

    def _measure(self, plan: RunPlan, stack: Stack, request: EnhanceRequest) -> None:
        if request.background is not None:
            self._estimate(plan, stack, request)
            return
        self._start(
            lambda _: _background_steps(plan.stack),
            lambda outcome: self._show_background(outcome, plan, stack, request),
        )

    def _show_background(
        self, outcome: Outcome, plan: RunPlan, stack: Stack, request: EnhanceRequest
    ) -> None:
        if outcome.value is not None:
            self.background_found.emit(float(outcome.value))
        self._estimate(plan, stack, request)

    def _estimate(self, plan: RunPlan, stack: Stack, request: EnhanceRequest) -> None:
        size, psf = plan.stack.voxel_size.zyx_um, plan.psf and plan.psf.describe()
        key = f"{request.to_yaml()}{plan.device.name}{plan.stack.shape}{size}{psf}"
        self.planned_key = key
        if key in self._seconds:
            self.timed.emit(self._seconds[key])
            return
        self._start(
            lambda cancel: estimate_steps(stack, request, cancel),
            lambda outcome: self._show_time(outcome, key),
        )

    def _show_time(self, outcome: Outcome, key: str) -> None:
        if outcome.value is not None:
            self._seconds[key] = float(outcome.value)
            self.timed.emit(float(outcome.value))
        elif outcome.failure:
            self.failed.emit(outcome.failure)

    def _start(
        self,
        make: Callable[[threading.Event], Any],
        done: Callable[[Outcome], None],
        *,
        exclusive: bool = True,
    ) -> None:
        self._task = Task(make, on_outcome=done, exclusive=exclusive)
        self._task.start()
