"""The verdict: green, amber or red, and the sentences that say why.

Red is a finding: the result contradicts the measurement. Amber is a doubt: something could not be
judged, or is borderline. Green means that no check found anything above the stated detection limit;
it is never proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zenhance.assess.heldout import HeldOutReport
from zenhance.assess.reblur import FAIL_SHARE, ReblurReport

__all__ = ["Light", "Verdict", "decide"]

Light = Literal["green", "amber", "red"]

SPREAD_LIMIT = 1.3
BLIND_SHARE = 0.5
"""From this detection limit on, nothing can be judged."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The light, its sentence, and the reasons."""

    light: Light
    headline: str
    reasons: tuple[str, ...]


def decide(
    reblur: ReblurReport | None, held_out: HeldOutReport | None, not_judged: str = ""
) -> Verdict:
    """Weigh the checks.

    Parameters
    ----------
    reblur : ReblurReport or None
        None where the check could not be made.
    held_out : HeldOutReport or None
        None where it was not asked for.
    not_judged : str
        Reason for a missing re-blur check.

    Returns
    -------
    Verdict
        Red if the re-blur check flags more than 0.1 % of the voxels or the held-out photons are
        predicted worse than by smoothing; green if all checks pass; amber in between, and if
        nothing could be judged.
    """
    red = [*_findings(reblur), *_held_out_findings(held_out)]
    doubts = [*_doubts(reblur, not_judged), *_held_out_doubts(held_out)]
    facts = [] if reblur is None else _facts(reblur)
    if red:
        return Verdict("red", red[0], (*red[1:], *doubts, *facts))
    if doubts:
        return Verdict("amber", doubts[0], (*doubts[1:], *facts))
    return Verdict(
        "green",
        "Blurred again, the result explains the measurement to within its noise.",
        tuple(facts),
    )


def percent(share: float) -> str:
    """Return a share in words: ``0.03 %``."""
    return f"{100 * share:.2g} %"


def _findings(r: ReblurReport | None) -> list[str]:
    if r is None or r.flagged_share <= FAIL_SHARE:
        return []
    if r.added_share > 2 * r.missing_share:
        what = "most of it is structure that was not measured"
    elif r.missing_share > 2 * r.added_share:
        what = "most of it is light that was measured and is missing from the result"
    else:
        what = "structure that was not measured in some places, light that is missing in others"
    return [
        f"The result contradicts the measurement in {percent(r.flagged_share)} "
        f"of the volume: {what}."
    ]


def _doubts(r: ReblurReport | None, not_judged: str) -> list[str]:
    if r is None:
        return [
            "Whether the result agrees with the measurement could not be judged: "
            f"{not_judged or 'the point spread function is unknown'}."
        ]
    doubts = []
    if r.grade == "warn":
        doubts.append(
            f"A small part of the volume ({percent(r.flagged_share)}) disagrees with "
            "the measurement; look at the z-map."
        )
    if r.smallest_visible > BLIND_SHARE:
        doubts.append(
            f"With about {r.peak_photons:.2g} photons in the brightest places, "
            "noise hides false structure; nothing can be judged."
        )
    if r.discrepancy < 0.9:
        doubts.append(
            f"The result follows the noise of the measurement "
            f"(deviance ratio {r.discrepancy:.2f}, 1 would be right)."
        )
    elif r.discrepancy < 0.95:
        doubts.append(
            f"The result follows the noise a little "
            f"(deviance ratio {r.discrepancy:.2f}, 0.95 to 1.05 would be right)."
        )
    elif r.discrepancy_grade != "pass":
        doubts.append(
            f"Overall the fit to the measurement is off "
            f"(deviance ratio {r.discrepancy:.2f}, 0.95 to 1.05 would be right)."
        )
    if r.width_at_bound:
        direction = "narrower" if r.width < 1 else "wider"
        doubts.append(
            f"The measurement asks for a point spread function {direction} than the one given "
            f"({r.width:.2f} times its width or beyond)."
        )
    if r.spread_z > SPREAD_LIMIT:
        doubts.append(
            f"Differences are {r.spread_z:.1f} times the expected noise everywhere; "
            "the gain or offset of the camera may be wrong."
        )
    return doubts


def _facts(r: ReblurReport) -> list[str]:
    facts = []
    if r.smallest_visible <= BLIND_SHARE:
        facts.append(
            f"At about {r.peak_photons:.3g} photons in the brightest places, a false spot fainter "
            f"than {percent(r.smallest_visible)} of them would not have been found "
            f"({percent(r.smallest_visible_bright)} where it is bright)."
        )
    if r.place_count and r.grade == "pass":
        facts.append(
            f"{r.place_count} small places disagree with the measurement; "
            "look at them in the z-map."
        )
    if r.width != 1.0 and not r.width_at_bound:
        facts.append(
            f"The point spread function was taken as {r.width:.2f} times as wide as given, "
            "which explains the measurement best."
        )
    return facts


def _held_out_findings(h: HeldOutReport | None) -> list[str]:
    if h is None or h.grade != "fail":
        return []
    return [
        "Photons that the method had not seen are predicted worse than by plain smoothing: "
        "it keeps noise or makes structure up."
    ]


def _held_out_doubts(h: HeldOutReport | None) -> list[str]:
    if h is None or h.grade != "warn":
        return []
    return [
        "Photons that the method had not seen are predicted no better than by smoothing "
        "or by ten iterations of Richardson-Lucy."
    ]
