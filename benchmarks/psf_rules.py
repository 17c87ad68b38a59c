"""Which point spread function each of several files gets.

::

    sigma_um=0.3,0.1,0.1               all files
    SPEC@confocal_*;SPEC@*DAPI*        by name, the first match; other files keep their own
    beads:beads.tif@confocal_*         median width of the beads in that file, three times along z
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from zenhance.errors import MethodError
from zenhance.physics.psf import parse_psf

__all__ = ["PsfRule", "read_rules", "told_psf"]

BEADS = "beads:"


@dataclass(frozen=True, slots=True)
class PsfRule:
    """A point spread function, as ``--psf`` takes it, and the file names that it is for."""

    spec: str
    pattern: str = "*"


def read_rules(text: str) -> tuple[PsfRule, ...]:
    """Read the option.

    Raises
    ------
    MethodError
        A part names no point spread function.
    """
    rules = []
    for part in (p.strip() for p in text.split(";")):
        spec, _, pattern = part.rpartition("@") if "@" in part else (part, "", "*")
        if not part:
            continue
        if not spec.strip() or not pattern.strip():
            raise MethodError(
                f'"{part[:60]}" in the PSF lacks one side of the @; write SPEC@PATTERN, such as '
                "sigma_um=0.3,0.1,0.1@conf*"
            )
        rules.append(PsfRule(spec.strip(), pattern.strip()))
    for rule in rules:
        if not rule.spec.startswith((BEADS, "measured:")):
            parse_psf(rule.spec, 2)
    return tuple(rules)


def told_psf(path: Path, rules: tuple[PsfRule, ...]) -> tuple[str | None, str]:
    """Return the PSF for a file, None for its own, and the file of beads that gave it, if any.

    Raises
    ------
    StackError, ReadError
        The beads cannot be measured.
    """
    for rule in rules:
        if not fnmatchcase(path.name, rule.pattern):
            continue
        if not rule.spec.startswith(BEADS):
            return rule.spec, ""
        beads = Path(rule.spec.removeprefix(BEADS)).expanduser()
        return _bead_psf(beads), f"the beads of {beads.name}"
    return None, ""


@lru_cache(maxsize=8)
def _bead_psf(path: Path) -> str:
    from benchmarks.experiments.beads import read_beads

    return read_beads(path).psf
