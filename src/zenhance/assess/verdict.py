"""The verdict: green, amber or red, and the sentences that say why.

Red is a finding: the result contradicts the measurement. Amber is a doubt: a place disagrees, the
PSF is doubtful, or something could not be judged. Green means that no check found anything above
the stated detection limit; it is never proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zenhance.assess.heldout import HeldOutReport
from zenhance.assess.reblur_report import (
    FAIL_SHARE,
    FITTED_BELOW,
    FITTED_LEAST,
    MISFIT_FAIL,
    ReblurReport,
)

__all__ = ["Light", "Verdict", "decide"]

Light = Literal["green", "amber", "red"]

SPREAD_LIMIT = 1.3
BLIND_SHARE = 0.5
"""From this detection limit on, the light is too faint to show false structure."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The light, its sentence, and the reasons; three answers come first among them."""

    light: Light
    headline: str
    reasons: tuple[str, ...]


def decide(
    reblur: ReblurReport | None,
    held_out: HeldOutReport | None,
    not_judged: str = "",
    *,
    default_psf: bool = False,
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
    default_psf : bool
        Whether the PSF is an assumption: agreement with it is then no evidence.

    Returns
    -------
    Verdict
        Red if the re-blur check flags more than 0.1 % of the voxels, the deviance ratio is above 2,
        or the held-out photons are predicted worse than by smoothing; green if all checks pass;
        amber in between, and if nothing could be judged.
    """
    red = [*_findings(reblur), *_held_out_findings(held_out)]
    doubts = [*_doubts(reblur, not_judged), *_held_out_doubts(held_out)]
    if default_psf and reblur is not None:
        doubts.append(
            "The point spread function is a default, so agreement with it is no evidence; "
            "measure the microscope or give its numbers."
        )
    facts = [] if reblur is None else [*_answers(reblur), *_facts(reblur)]
    if red:
        return Verdict("red", red[0], (*facts[:3], *red[1:], *doubts, *facts[3:]))
    if doubts:
        return Verdict("amber", doubts[0], (*facts[:3], *doubts[1:], *facts[3:]))
    headline = "Blurred again, the result explains the measurement to within its noise"
    if reblur is not None and reblur.smallest_visible > BLIND_SHARE:
        headline += (
            f"; at about {reblur.peak_photons:.2g} photons in the brightest places that noise "
            "would hide false structure, so this says nothing of details"
        )
    return Verdict("green", f"{headline}.", tuple(facts))


def percent(share: float) -> str:
    """Return a share in words: ``0.03 %``."""
    return f"{100 * share:.2g} %"


def _answers(r: ReblurReport) -> tuple[str, str, str]:
    """Answer the three questions about a result."""
    if r.grade == "fail":
        data = "no"
    elif r.place_count:
        data = f"except in {_places(r.place_count)}"
    else:
        data = "yes, with a PSF of another width" if r.psf_doubtful else "yes"
    ratio = r.discrepancy + r.discrepancy_slack
    follows = "yes" if ratio < 0.9 else "a little" if ratio < 0.95 else "no"
    return (
        f"Consistent with the data? {data[0].upper()}{data[1:]} "
        f"({percent(r.flagged_share)} of the volume disagrees).",
        f"Follows the noise? {follows.capitalize()} (deviance ratio {r.discrepancy:.2f}; "
        "1 leaves the noise in the residual).",
        f"How much is prior? {percent(r.prior_share)} of the structure's power is finer or fainter "
        "than this measurement can see; it comes from the method.",
    )


def _places(count: int) -> str:
    return "one place" if count == 1 else f"{count} places"


def _findings(r: ReblurReport | None) -> list[str]:
    if r is None or r.grade != "fail":
        return []
    if r.flagged_share <= FAIL_SHARE:
        return [
            f"The result does not fit the measurement: it is {r.discrepancy:.3g} times as far off "
            f"as noise explains (up to {MISFIT_FAIL:g} may be an unsuitable noise estimate)."
        ]
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
            "The agreement with the measurement could not be judged: "
            f"{not_judged or 'the point spread function is unknown'}."
        ]
    doubts = []
    if r.smoothed:
        doubts.append(
            "The result is the measurement smoothed: fine structure is lost in "
            f"{_places(r.place_count)}, and none is added."
        )
    elif r.grade == "warn":
        verb = "disagrees" if r.place_count == 1 else "disagree"
        doubts.append(
            f"{_places(r.place_count).capitalize()} ({percent(r.flagged_share)} of the volume) "
            f"{verb} with the measurement; look at the z-map."
        )
    doubts += _noise_doubts(r) if r.discrepancy < 0.9 else []
    doubts += _psf_doubts(r)
    doubts += [] if r.discrepancy < 0.9 else _noise_doubts(r)
    if r.spread_z > SPREAD_LIMIT:
        doubts.append(
            f"Differences are {r.spread_z:.1f} times the expected noise everywhere; "
            "the gain or offset of the camera may be wrong."
        )
    return doubts


def _psf_doubts(r: ReblurReport) -> list[str]:
    if not r.psf_doubtful:
        return []
    if r.stack_width_yx:
        return [_stack_blur(r)]
    places = f", and explains {_places(r.psf_places)} that would disagree" if r.psf_places else ""
    bound = " or beyond" if r.width_at_bound else ""
    smooth = r.width_z <= 1.0 and r.width_yx <= 1.0
    either = ", or the result is smoother than the measurement allows" if smooth else ""
    return [
        f"The point spread function is doubtful here{either}: one "
        f"{r.width_yx:.2f} times as wide in the plane and {r.width_z:.2f} times along z{bound} "
        f"fits better{places}."
    ]


def _stack_blur(r: ReblurReport) -> str:
    """Say how wide the blur of the measured stack itself is."""
    said = [
        f"{value:.2f} ({low:.2f} to {high:.2f}) times as wide {where}"
        for (value, low, high), where in ((r.stack_width_yx, "in the plane"),
                                          (r.stack_width_z, "along z"))
    ]  # fmt: skip
    return (
        "The point spread function is doubtful here: the blur measured on the stack itself is "
        f"{' and '.join(said)}, and a result that was made with a wrong one hides it."
    )


def _noise_doubts(r: ReblurReport) -> list[str]:
    if r.discrepancy_grade == "pass":
        return []
    ratio = f"deviance ratio {r.discrepancy:.2f}, 0.95 to 1.05 would be right"
    if r.discrepancy > 1.0:
        return [f"Overall the fit to the measurement is off ({ratio})."]
    how = "the noise a little" if r.discrepancy_grade == "warn" else "the noise of the measurement"
    return [f"The result follows {how} ({ratio})."]


def _facts(r: ReblurReport) -> list[str]:
    facts = []
    if FITTED_LEAST < r.spread_z < FITTED_BELOW:
        facts.append(
            f"The result was fitted to this measurement and leaves {percent(r.spread_z)} of its "
            "noise; differences were judged in units of what is left."
        )
    if r.smallest_visible <= BLIND_SHARE:
        facts.append(
            f"At about {r.peak_photons:.3g} photons in the brightest places, a false spot fainter "
            f"than {percent(r.smallest_visible)} of them would not have been found "
            f"({percent(r.smallest_visible_bright)} where it is bright)."
        )
    if (r.width_z, r.width_yx) != (1.0, 1.0) and not r.psf_doubtful:
        facts.append(
            f"The point spread function was taken as {r.width_yx:.2f} times as wide in the plane "
            f"and {r.width_z:.2f} times along z, which explains the measurement best."
        )
    return facts


def _held_out_findings(h: HeldOutReport | None) -> list[str]:
    if h is None or h.grade != "fail":
        return []
    return [
        "Photons that the method had not seen are predicted worse than by plain smoothing: "
        "it keeps noise or invents structure."
    ]


def _held_out_doubts(h: HeldOutReport | None) -> list[str]:
    if h is None or h.grade != "warn":
        return []
    if h.correlated:
        return [
            "The noise of neighbouring voxels is correlated, as after filtering or resampling, so "
            "held-out photons say nothing; give the raw data."
        ]
    return [
        "Photons that the method had not seen are predicted no better than by smoothing "
        "or by ten iterations of Richardson-Lucy."
    ]
