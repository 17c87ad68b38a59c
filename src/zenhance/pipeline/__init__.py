"""The main path: from a stack and a request to a better stack that says how it was made."""

from __future__ import annotations

from zenhance.pipeline.learning import LearningProgress
from zenhance.pipeline.plan import RunPlan, plan_run
from zenhance.pipeline.preview import estimate_steps, preview_steps
from zenhance.pipeline.request import EnhanceRequest
from zenhance.pipeline.run import EnhanceResult, Progress, enhance, enhance_steps

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
