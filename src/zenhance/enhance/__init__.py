"""The main path from a stack and a request to a better stack that says how it was made.

``zenhance.enhance`` is at once this module and the public function: Python binds a module to its package's attribute of the same
name, so the module itself can be called. Both ``zenhance.enhance(stack, ...)`` and ``from zenhance.enhance import EnhanceRequest``
work, whichever comes first.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from zenhance.enhance.learning import LearningProgress
from zenhance.enhance.plan import RunPlan, plan_run
from zenhance.enhance.preview import estimate_steps, preview_steps
from zenhance.enhance.request import EnhanceRequest
from zenhance.enhance.run import EnhanceResult, Progress, enhance, enhance_steps

__all__ = [
    "EnhanceRequest",
    "EnhanceResult",
    "LearningProgress",
    "Progress",
    "RunPlan",
    "enhance",
    "enhance_steps",
    "estimate_steps",
    "plan_run",
    "preview_steps",
]


class _CallableModule(ModuleType):
    """This module, callable as the function :func:`enhance`."""

    def __call__(self, *args: Any, **kwargs: Any) -> EnhanceResult:
        return enhance(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
