"""Who takes part in the filaments' table, what the report found.

And how large the measurement is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import Contender
from benchmarks.scenes import FILAMENTS_SHAPE_PX

__all__ = [
    "METHOD",
    "PRESETS",
    "ROWS",
    "SETS",
    "TEST_SEED",
    "TRAINING_SEED",
    "WEIGHTS",
    "FilamentOptions",
    "Penalties",
    "Row",
]

SETS: tuple[tuple[str, str], ...] = (
    ("filaments_set1", "set 1, low noise"),
    ("filaments_set2", "set 2, high noise"),
)
PRESETS = tuple(preset for preset, _ in SETS)
TEST_SEED, TRAINING_SEED = 100, 20_000
METHOD = "divblurring"
SAMPLES = 100
"""Their mean is the report's estimate."""


@dataclass(frozen=True, slots=True)
class Penalties:
    """Weights of the penalties per pixel, in scaled intensities; positivity small and large."""

    l1: float = 1.0
    l2: float = 0.1
    positivity: tuple[float, float] = (10.0, 1000.0)


WEIGHTS = Penalties()
"""Chosen in a short sweep on other images (docs/benchmark.md)."""


@dataclass(frozen=True, slots=True)
class FilamentOptions:
    """Size of the measurement.

    Parameters
    ----------
    images : int
        To learn from, of each set; the report had 7000.
    repeats : int
        Trainings of each row, from other seeds.
    steps : int
        Of each training.
    minutes : float, optional
        At most so long for each training.
    test_images : int
        Unseen, of each set.
    samples : int
        Drawn for an estimate.
    iterations : int
        Of Richardson-Lucy at most.
    shape_px : tuple of int
        Of an image, z, y, x.
    test_seed : int
        Of the first unseen image.
    """

    images: int = 128
    repeats: int = 3
    steps: int = 400
    minutes: float | None = None
    test_images: int = 3
    samples: int = SAMPLES
    iterations: int = 400
    shape_px: tuple[int, int, int] = FILAMENTS_SHAPE_PX
    test_seed: int = TEST_SEED


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: a method as it is, a rival tuned by the truth, or a trained network.

    Parameters
    ----------
    name, title : str
        For files, and for the table.
    report : tuple of str
        The report's own figures on its two sets.
    contender : Contender, optional
        A method of the registry, run as it is.
    tuned : tuple of float, optional
        Weights of total variation among which the truth chooses, as it does among the iterations of
        Richardson-Lucy.
    architecture : mapping, optional
        What sets the report's network apart from its plain form, trained here.
    alone : bool
        The ladder, learnt here from the same images, once.
    """

    name: str
    title: str
    report: tuple[str, str] = ("-", "-")
    contender: Contender | None = None
    tuned: tuple[float, ...] | None = None
    architecture: Mapping[str, Any] | None = None
    alone: bool = False


def _as_it_is(
    name: str, title: str, method: str, weights: str | None = None, **settings: Any
) -> Row:
    return Row(name, title, contender=Contender(name, title, method, settings, weights))


_L1, _L2, (_SMALL, _LARGE) = WEIGHTS.l1, WEIGHTS.l2, WEIGHTS.positivity
ROWS: tuple[Row, ...] = (
    _as_it_is("raw", "measured (identity)", "identity"),
    _as_it_is("wiener", "Wiener", "gaussian_deconvolution", variant="wiener"),
    _as_it_is("rl", "RL, stop rule", "gaussian_deconvolution"),
    Row("rl_best", "RL, best iteration by the truth", tuned=(0.0,)),
    Row(
        "rl_tv_best",
        "RL with TV, best weight and iteration by the truth",
        tuned=(0.00003, 0.0001, 0.0003),
    ),
    _as_it_is("rdn", "RDN as it ships, taught with truth", "rdn", "rdn_filaments"),
    Row("divnoising", "DivNoising", ("27.27", "-"), architecture={"blur": False}),
    Row("divblurring_plain", "DivBlurring", ("27.60", "25.85"), architecture={}),
    Row("divblurring_l1", "DivBlurring + ℓ1", ("27.21", "27.51"), architecture={"l1": _L1}),
    Row("divblurring_l2", "DivBlurring + ℓ2", ("27.64", "27.75"), architecture={"l2": _L2}),
    Row(
        "divblurring_small",
        "DivBlurring + positivity, small",
        ("27.45", "27.51"),
        architecture={"positivity": _SMALL},
    ),
    Row(
        "divblurring_large",
        "DivBlurring + positivity, large",
        ("27.31", "27.22"),
        architecture={"positivity": _LARGE},
    ),
    Row(
        "divblurring_both",
        "DivBlurring + positivity, large, and ℓ1",
        ("26.92", "27.55"),
        architecture={"positivity": _LARGE, "l1": _L1},
    ),
    _as_it_is(
        "paper",
        "divblurring_paper as it ships: DivBlurring, set 1 for longer",
        METHOD,
        "divblurring_paper",
        preset="paper",
    ),
    Row(
        "ladder_alone",
        "divblurring (ladder), learnt from these images alone",
        architecture={"shortcut": True},
        alone=True,
    ),
    _as_it_is(
        "ladder",
        "divblurring_filaments as it ships, taught with truth",
        METHOD,
        "divblurring_filaments",
    ),
)
"""In the table's order."""
