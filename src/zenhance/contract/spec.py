"""What a method declares about itself; tiling, forms, command line, provenance and docs are derived from it.

Nothing in the package asks for a method's name: it asks the :class:`MethodSpec`, and hands the method a :class:`MethodContext`.
A method processes a volume in two steps::

    prepared = method.prepare(context)            # once per volume: statistics, schedules, operators, weights
    outputs  = yield from prepared(tile, origin)  # for every tile; yields the fraction done, so that it can be interrupted
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from zenhance.types import FloatArray, Triple

if TYPE_CHECKING:
    from zenhance.contract.learner import Learner

__all__ = [
    "REMARK",
    "STD",
    "WHOLE_VOXELS",
    "LearningMethod",
    "Method",
    "MethodContext",
    "MethodParameters",
    "MethodSpec",
    "NoiseLike",
    "OutputSpec",
    "Prepared",
    "PsfLike",
    "TileGenerator",
    "VolumeStatistics",
]

TileGenerator = Generator[float, None, Mapping[str, FloatArray]]
WHOLE_VOXELS = 4_000_000
"""Most voxels that ``prepare`` may work on at once, as long as memory does not run out."""


STD = "std"
"""Name of an output that is a standard deviation per voxel, in the intensity units of the enhanced image."""
REMARK = "remark"
"""Key of a method's notes: one sentence that whoever asked for the run should read at its end."""


class MethodParameters(BaseModel):
    """Base of every method's settings: frozen, unknown keys refused, no NaN or infinity.

    Each field carries its default, its bounds, a one-line description and, in ``json_schema_extra``, its ``unit``,
    ``"advanced": True`` where the form should tuck it away, and ``"start"``: the value that a form offers first where the default is None.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One image a method gives back, or several samples of one.

    Parameters
    ----------
    name : str
        Key of the method's mapping, and the end of a file's name; :data:`STD` is drawn as a deviation.
    title : str
        For layers.
    kind : {'image', 'labels'}
        Labels are kept as uint16. Of images, the first may be asked for in the input's type; all others are float32.
    series : int
        0 for one image; K where the method gives an array (K, Z, Y, X) for each tile: K samples, kept along the axis T. The first
        output of a method is always one image.
    """

    name: str
    title: str
    kind: Literal["image", "labels"] = "image"
    series: int = 0


@dataclass(frozen=True, slots=True)
class VolumeStatistics:
    """Intensity statistics of one (t, c) volume, in the input's units, over finite voxels only."""

    minimum: float
    maximum: float
    mean: float
    std: float
    percentile_low: float
    """0.1 %"""
    percentile_high: float
    """99.9 %"""
    background: float
    """Intensity where there is no specimen (camera offset and haze)."""

    @property
    def span(self) -> float:
        """``percentile_high - percentile_low``, the robust range."""
        return self.percentile_high - self.percentile_low


class PsfLike(Protocol):
    """What a method may ask of a point spread function (see ``physics.psf.Psf``)."""

    def kernel(self, voxel_size_um: tuple[float, float, float], ndim: int = 3) -> FloatArray: ...
    def radius_px(self, voxel_size_um: tuple[float, float, float]) -> Triple: ...
    def sigma_px(self, voxel_size_um: tuple[float, float, float]) -> tuple[float, float, float]: ...
    def describe(self) -> str: ...


class NoiseLike(Protocol):
    """What a method may ask of a noise model (see ``physics.noise.PoissonGauss``)."""

    @property
    def gain(self) -> float: ...
    @property
    def offset(self) -> float: ...
    @property
    def read_noise(self) -> float: ...


@dataclass(frozen=True, slots=True)
class MethodContext:
    """Everything a method gets to know about the volume it is about to enhance.

    Parameters
    ----------
    parameters : MethodParameters
        Validated settings of the method.
    shape_px : tuple of int
        (Z, Y, X) of the whole volume; Z is 1 for a 2-D image.
    voxel_size_um : tuple of float
        (z, y, x).
    statistics : VolumeStatistics
        Of the whole volume.
    read : callable
        Takes a (z, y, x) tuple of slices and returns that region as float32 (Z, Y, X), non-finite voxels filled in.
    device : str
        ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    seed : int
        Of every random draw.
    psf : PsfLike or None
        None only for a method that needs none.
    noise : NoiseLike or None
        Gain, offset and read noise, given or estimated from the volume.
    weights : str or None
        Name or path of the learnt weights the request asks for; None means the method's default.
    whole_voxels : int
        Most voxels that ``prepare`` may work on at once; lowered when memory ran out there.
    background_given : bool
        Whether ``statistics.background`` is the user's word and not an estimate.
    """

    parameters: Any
    shape_px: Triple
    voxel_size_um: tuple[float, float, float]
    statistics: VolumeStatistics
    read: Callable[[tuple[slice, slice, slice]], FloatArray]
    device: str = "cpu"
    seed: int = 0
    psf: PsfLike | None = None
    noise: NoiseLike | None = None
    weights: str | None = None
    whole_voxels: int = WHOLE_VOXELS
    background_given: bool = False


class Prepared(Protocol):
    """A method made ready for one volume; called once per tile.

    Called with a float32 tile (Z, Y, X) that includes its halo, and the tile's origin in the volume (z, y, x), it returns a generator
    that yields the fraction done (0 ... 1) at least once a second and returns a mapping from output name to float32 array. Each
    array has the tile's shape times the output scale, and in front of it the number of samples where the output is a series.
    """

    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator: ...

    @property
    def halo_px(self) -> Triple:
        """Context in pixels (z, y, x) beyond which a voxel has no say (to 1e-5 of the range)."""
        ...

    @property
    def curves(self) -> Mapping[str, list[float]]:
        """Figures per iteration, for the provenance record."""
        ...

    @property
    def notes(self) -> Mapping[str, Any]:
        """What else belongs in the provenance record; the keys ``warnings`` (sentences) and ``weights_sha256`` go to its own fields."""
        ...


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """The facts of a method.

    Parameters
    ----------
    name : str
        As typed on the command line.
    title, summary : str
        For menus, and one sentence on when to use it.
    parameters : type of MethodParameters
        The settings' model.
    consumes : {'slice', 'z_window', 'volume', 'sequence'}
        What one inference step looks at.
    outputs : tuple of OutputSpec
        The first is the enhanced image.
    output_scale : tuple of int
        How many output voxels per input voxel along z, y, x.
    size_multiple : tuple of int
        Tiles begin and end on multiples of this, on the volume's own grid.
    bytes_per_voxel : int
        Working memory per voxel of a tile, halo included, on the device; what a series of samples takes is added to it.
    needs_psf : bool
        Whether the method cannot do without a point spread function.
    stochastic : bool
        Whether the seed matters.
    learns : {'no', 'pairs', 'own_stack'}
        What it can learn from.
    output_scale_of : callable, optional
        Tells the output scale from the settings, where it depends on them.
    outputs_of : callable, optional
        Tells which of the outputs there are with these settings, where it depends on them.
    needs_psf_of : callable, optional
        Tells whether it needs a point spread function with these settings, where it depends on them.
    deblurs_of : callable, optional
        Tells whether it takes blur away with these settings, where it depends on them.
    step_only : callable, optional
        Tells from a model's architecture whether it serves a step that is switched on by a setting, so that it is no result by itself.
    dimensions_of : callable, optional
        Tells 2 or 3 from the settings, where some of them work on each plane by itself.
    prepare_cost : float
        Work of ``prepare`` per voxel it looks at (at most ``whole_voxels``), relative to that of a tile's voxel; a volume it looks at
        whole leaves nothing to do for the tiles. For telling the time.
    default_weights : str
        Name of the weights to use where the request names none.
    default_weights_of : callable, optional
        Tells that name from the settings, where it depends on them.
    source : str
        Paper and equation.
    deblurs : bool
        False for a method that at most takes noise away, so that its result still has the microscope's blur.
    """

    name: str
    title: str
    summary: str
    parameters: type[MethodParameters]
    consumes: Literal["slice", "z_window", "volume", "sequence"] = "volume"
    outputs: tuple[OutputSpec, ...] = (OutputSpec("enhanced", "enhanced"),)
    output_scale: Triple = (1, 1, 1)
    size_multiple: Triple = (1, 1, 1)
    bytes_per_voxel: int = 64
    needs_psf: bool = False
    stochastic: bool = False
    learns: Literal["no", "pairs", "own_stack"] = "no"
    output_scale_of: Callable[[Any], Triple] | None = None
    outputs_of: Callable[[Any], tuple[OutputSpec, ...]] | None = None
    needs_psf_of: Callable[[Any], bool] | None = None
    deblurs_of: Callable[[Any], bool] | None = None
    step_only: Callable[[Mapping[str, Any]], bool] | None = None
    dimensions_of: Callable[[Any], int] | None = None
    prepare_cost: float = 0.0
    default_weights: str = ""
    default_weights_of: Callable[[Any], str] | None = None
    source: str = ""
    deblurs: bool = True

    def scale(self, parameters: Any) -> Triple:
        """Return how many output voxels an input voxel becomes along z, y, x with these settings."""
        return (
            self.output_scale if self.output_scale_of is None else self.output_scale_of(parameters)
        )

    def outputs_with(self, parameters: Any) -> tuple[OutputSpec, ...]:
        """Return the images that the method gives with these settings, the enhanced one first."""
        return self.outputs if self.outputs_of is None else self.outputs_of(parameters)

    def weights(self, parameters: Any) -> str:
        """Return the name of the weights to use with these settings where the request names none."""
        return (
            self.default_weights
            if self.default_weights_of is None
            else self.default_weights_of(parameters)
        )

    def needs_psf_with(self, parameters: Any) -> bool:
        """Return whether the method cannot do without a point spread function with these settings."""
        return self.needs_psf if self.needs_psf_of is None else self.needs_psf_of(parameters)

    def deblurs_with(self, parameters: Any) -> bool:
        """Return whether the method takes blur away with these settings."""
        return self.deblurs if self.deblurs_of is None else self.deblurs_of(parameters)

    def dimensions(self, parameters: Any) -> int:
        """Return 2 where planes are enhanced each by itself with these settings, so that the step along z does not matter; else 3."""
        return 3 if self.dimensions_of is None else self.dimensions_of(parameters)


class Method(Protocol):
    """A method as the registry hands it out. Importing its module must not import torch; ``prepare`` may."""

    @property
    def spec(self) -> MethodSpec: ...

    def plan_halo_px(
        self,
        parameters: Any,
        psf: PsfLike | None,
        voxel_size_um: tuple[float, float, float],
        shape_px: Triple,
    ) -> Triple:
        """Return the halo (z, y, x) to plan with before anything has run.

        ``Prepared.halo_px`` does not exceed it, unless the volume was not to be worked on at once (``MethodContext.whole_voxels``).
        """
        ...

    def prepare(self, context: MethodContext) -> Generator[float, None, Prepared]:
        """Do once per volume what must not depend on tiles; yields the fraction done, returns the prepared method."""
        ...


@runtime_checkable
class LearningMethod(Method, Protocol):
    """A method with weights; ``spec.learns`` says from what."""

    def learner(self) -> Learner:
        """Return how it learns (imports torch)."""
        ...
