"""RDN on a volume, plane by plane."""

from __future__ import annotations

from functools import partial

from zenhance.methods._shared.supervised import prepare_planes
from zenhance.methods.rdn.training import LEARNER

__all__ = ["prepare"]

prepare = partial(prepare_planes, "rdn", LEARNER)
