"""DQLR: encoder, recurrence over z, vector quantisation and generator, learnt from stacks like the one to be enhanced."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from zenhance.contract.spec import (
    MethodContext,
    MethodParameters,
    MethodSpec,
    OutputSpec,
    Prepared,
    PsfLike,
)
from zenhance.types import Triple

if TYPE_CHECKING:
    from zenhance.methods.dqlr.sequences import SequenceLearner

__all__ = ["METHOD", "WEIGHTS", "Dqlr", "DqlrParameters"]

# Tiles are planned before weights are read; no network that looks further is accepted.
MAX_REACH_PX = 48

WEIGHTS = {"dqlr": "dqlr_stack", "paper": "dqlr_paper"}
"""The weights that ship with each preset."""


class DqlrParameters(MethodParameters):
    """Settings of DQLR."""

    preset: Literal["dqlr", "paper"] = Field(
        "dqlr",
        description="dqlr sharpens and denoises; paper is the published form, which learnt to repeat what was measured",
    )
    agreement: float = Field(
        0.75,
        ge=0.0,
        le=1.0,
        description="how far the result is brought back to what was measured, as the PSF predicts it; 0 is what the network drew",
        json_schema_extra={"unit": ""},
    )
    codes: bool = Field(
        False,
        description="also give a label layer: which word of the first dictionary stands where",
        json_schema_extra={"advanced": True},
    )


_ENHANCED = OutputSpec("enhanced", "enhanced")
_CODES = OutputSpec("codes", "codes", "labels")


def _weights(parameters: DqlrParameters) -> str:
    return WEIGHTS[parameters.preset]


def _outputs(parameters: DqlrParameters) -> tuple[OutputSpec, ...]:
    return (_ENHANCED, _CODES) if parameters.codes else (_ENHANCED,)


def _deblurs(parameters: DqlrParameters) -> bool:
    return parameters.preset != "paper"


def _needs_psf(parameters: DqlrParameters) -> bool:
    return _deblurs(parameters) and parameters.agreement > 0


class Dqlr:
    """DQLR as a method."""

    spec = MethodSpec(
        name="dqlr",
        title="DQLR",
        summary="Quantised codes that neighbouring slices agree on: denoises and sharpens; can learn from your own stack alone.",
        parameters=DqlrParameters,
        consumes="sequence",
        outputs=(_ENHANCED, _CODES),
        outputs_of=_outputs,
        deblurs_of=_deblurs,
        needs_psf=True,
        needs_psf_of=_needs_psf,
        size_multiple=(1, 4, 4),
        bytes_per_voxel=220,
        learns="own_stack",
        default_weights=WEIGHTS["dqlr"],
        default_weights_of=_weights,
        source="Gupta, Aich, Rodriguez, Reddy, Roy-Chowdhury, arXiv 2107.14368 (2021)",
    )

    def plan_halo_px(
        self,
        parameters: Any,
        psf: PsfLike | None,
        voxel_size_um: tuple[float, float, float],
        shape_px: Triple,
    ) -> Triple:
        """Return the largest halo any network of this method needs: all planes, since the recurrence goes through them."""
        _, y, x = (0, 0, 0) if psf is None else psf.radius_px(voxel_size_um)
        return (shape_px[0], MAX_REACH_PX + 2 * y, MAX_REACH_PX + 2 * x)

    def learner(self) -> SequenceLearner:
        """Return how it learns."""
        from zenhance.methods.dqlr.sequences import SequenceLearner

        return SequenceLearner()

    def prepare(self, context: MethodContext) -> Generator[float, None, Prepared]:
        """Load the weights."""
        from zenhance.methods.dqlr.sequences import SequenceSettings, prepare_sequences

        parameters: DqlrParameters = context.parameters
        wanted = SequenceSettings(
            WEIGHTS[parameters.preset], parameters.agreement, parameters.codes
        )
        prepared = yield from prepare_sequences(self.spec.name, wanted, context)
        return prepared


METHOD = Dqlr()
