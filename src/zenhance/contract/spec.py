"""What a method declares about itself.

Tiling, forms, command line, provenance and docs are derived from it. Nothing in the package asks
for a method's name: it asks the :class:`MethodSpec` and the method's parameters, and hands the
method a :class:`MethodContext`. A method processes a volume in two steps::

    prepared = method.prepare(context)            # once per volume: schedules, operators, weights
    outputs  = yield from prepared(tile, origin)  # per tile; yields the fraction done
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from zenhance.types import FloatArray, FloatTriple, Region, Triple

__all__ = [
    "ENHANCED",
    "REMARK",
    "STD",
    "WHOLE_VOXELS",
    "Method",
    "MethodContext",
    "MethodParameters",
    "MethodSpec",
    "NoiseLike",
    "OutputSpec",
    "PlanContext",
    "Prepared",
    "ProfiledLike",
    "PsfLike",
    "Reference",
    "TileGenerator",
    "VolumeStatistics",
]

TileGenerator = Generator[float, None, Mapping[str, FloatArray]]
WHOLE_VOXELS = 4_000_000
"""Most voxels that ``prepare`` processes at once, while memory does not run out."""
STD = "std"
"""Name of an output with the standard deviation of each voxel, in the image's intensity units."""
REMARK = "remark"
"""Key of a run's notes: one sentence that the user should read at its end."""


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One image that a method returns, or several samples of one.

    Parameters
    ----------
    name : str
        Key of the method's mapping, and the end of a file's name; :data:`STD` is drawn as a
        deviation.
    title : str
        For layers.
    kind : {'image', 'labels'}
        Labels are uint16. The first image can have the input's type; all others are float32.
    series : int
        0 for one image; K where the method returns an array (K, Z, Y, X) for each tile: K samples,
        kept along the axis T. The first output of a method is always one image.
    """

    name: str
    title: str
    kind: Literal["image", "labels"] = "image"
    series: int = 0


ENHANCED = OutputSpec("enhanced", "enhanced")
"""The first output of a method."""


class MethodParameters(BaseModel):
    """Base of every method's settings: frozen, unknown keys refused, no NaN or infinity.

    Each field carries its default, its bounds, a one-line description and, in
    ``json_schema_extra``, its ``unit``, ``"advanced": True`` where the form hides it at first,
    ``"start"``: the value that a form offers first where the default is None, ``"strength"``:
    a label in plain words where it is what most people change, and ``"applies"``: the values of
    other fields for which it has a meaning.

    The properties below are the facts of a method that its settings can change. A method overrides
    those that differ from the default.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    prepare_work: ClassVar[float] = 0.0
    """Work of ``prepare`` where it does not depend on the volume, such as loading a model."""
    voxel_work: ClassVar[float] = 1.0
    """Work on each voxel of a tile; see :meth:`work` for the unit."""

    @property
    def output_scale(self) -> Triple:
        """Output voxels per input voxel along z, y, x."""
        return (1, 1, 1)

    @property
    def outputs(self) -> tuple[OutputSpec, ...]:
        """The images that the method returns, the enhanced one first."""
        return (ENHANCED,)

    @property
    def needs_psf(self) -> bool:
        """Whether the method cannot run without a point spread function."""
        return False

    @property
    def deblurs(self) -> bool:
        """Whether the method removes blur; False where it only denoises."""
        return True

    @property
    def solved_dimensions(self) -> int:
        """2 where each plane is enhanced on its own, so that the step along z is irrelevant."""
        return 3

    @property
    def weights(self) -> str:
        """Name of the weights to use where the request names none."""
        return ""

    def work(self, volume_voxels: int, read_voxels: int, whole_voxels: int) -> tuple[float, float]:
        """Return the work of ``prepare`` and that of all tiles, for the progress and the time left.

        Parameters
        ----------
        volume_voxels, read_voxels : int
            Voxels of the volume, and of its tiles with their halos.
        whole_voxels : int
            Most voxels that ``prepare`` works on at once.

        Returns
        -------
        tuple of float
            In units of the work of measuring one voxel's statistics on the CPU.
        """
        return self.prepare_work, self.voxel_work * read_voxels


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
    """What a method uses of a point spread function (see ``physics.psf.Psf``)."""

    def kernel(self, voxel_size_um: FloatTriple, ndim: int = 3) -> FloatArray:
        """Return the kernel (Z, Y, X), or (Y, X) for 2 dimensions; its sum is 1."""
        ...

    def radius_px(self, voxel_size_um: FloatTriple) -> Triple:
        """Return half the kernel's size along z, y, x, without its middle voxel."""
        ...

    def sigma_px(self, voxel_size_um: FloatTriple) -> FloatTriple:
        """Return the standard deviation along z, y, x."""
        ...

    def describe(self) -> str:
        """Return the PSF in words."""
        ...


class NoiseLike(Protocol):
    """What a method uses of a noise model (see ``physics.noise.PoissonGauss``)."""

    @property
    def gain(self) -> float:
        """Intensity per photon."""
        ...

    @property
    def offset(self) -> float:
        """Intensity without light."""
        ...

    @property
    def read_noise(self) -> float:
        """Standard deviation without light, as an intensity."""
        ...


class ProfiledLike(Protocol):
    """What a method uses of a volume with a microscope profile.

    See ``physics.profile_volume.ProfiledVolume``; regions are blocks of one shape.
    """

    def blur(self, regions: Sequence[Region], device: str) -> Any:
        """Return the blur of regions of one shape."""
        ...

    def sigma_px(self, region: Region) -> FloatArray:
        """Return the widths (2, Z, Y, X) of the blur along z, and along y and x, in voxels."""
        ...

    def kernels(self) -> tuple[FloatArray, ...]:
        """Return the kernels between which the blur is blended."""
        ...

    def kernel_position(self, regions: Sequence[Region], device: str) -> Any:
        """Return the position of each voxel among the kernels."""
        ...

    def bands(self, regions: Sequence[Region], device: str) -> Any:
        """Return the position of each voxel among the bands of depth."""
        ...

    def haze(self, regions: Sequence[Region], device: str) -> Any:
        """Return the light between the structures, in grey values above the background."""
        ...


@dataclass(frozen=True, slots=True)
class PlanContext:
    """What a method knows about the volume to enhance before any of it is read.

    Parameters
    ----------
    parameters : MethodParameters
        Validated settings of the method.
    shape_px : tuple of int
        (Z, Y, X) of the whole volume; Z is 1 for a 2-D image.
    voxel_size_um : tuple of float
        (z, y, x); 1.0 along an axis whose length is unknown.
    psf : PsfLike or None
        None only for a method that needs none.
    """

    parameters: Any
    shape_px: Triple
    voxel_size_um: FloatTriple
    psf: PsfLike | None = None

    @property
    def psf_radius_px(self) -> Triple:
        """Half the PSF's size along z, y, x; 0 without a PSF."""
        return (0, 0, 0) if self.psf is None else self.psf.radius_px(self.voxel_size_um)


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodContext(PlanContext):
    """Everything that a method knows about the volume to enhance.

    Parameters
    ----------
    statistics : VolumeStatistics
        Of the whole volume.
    read : callable
        Takes a (z, y, x) tuple of slices and returns that region as float32 (Z, Y, X), with
        non-finite voxels filled in.
    device : str
        ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    seed : int
        Of every random draw.
    noise : NoiseLike or None
        Gain, offset and read noise, given or estimated from the volume.
    weights : str or None
        Name or path of the trained weights the request asks for; None means the method's default.
    whole_voxels : int
        Most voxels that ``prepare`` processes at once; lowered when it runs out of memory.
    background_given : bool
        Whether the user gave ``statistics.background``; it is not an estimate.
    unknown_axes : str
        Those of ``zyx`` whose voxel size is unknown.
    profiled : ProfiledLike or None
        The blur, haze and bands of depth of each region, where the run has a microscope profile.
        ``psf``, ``noise`` and the background then come from the profile too.
    mask : callable or None
        Takes a region as ``read`` does and returns where it has no data, or None where all of it
        was measured. ``read`` fills such voxels in; statistics must leave them out.
    """

    statistics: VolumeStatistics
    read: Callable[[tuple[slice, slice, slice]], FloatArray]
    device: str = "cpu"
    seed: int = 0
    noise: NoiseLike | None = None
    weights: str | None = None
    whole_voxels: int = WHOLE_VOXELS
    background_given: bool = False
    unknown_axes: str = ""
    profiled: ProfiledLike | None = None
    mask: Callable[[Region], npt.NDArray[np.bool_] | None] | None = None


@dataclass(kw_only=True)
class Prepared(ABC):
    """A method made ready for one volume; called once per tile.

    Parameters
    ----------
    halo_px : tuple of int
        Context in pixels (z, y, x) beyond which a voxel has no influence (to 1e-5 of the range).
    curves : mapping of str to list of float
        Figures per iteration, for the provenance record.
    notes : mapping
        Other entries of the provenance record.
    warnings : sequence of str
        Sentences for the user.
    remark : str
        One sentence that the user should read at the end of the run.
    weights_sha256 : str
        Hash of the trained weights, empty where there are none.
    freedom : float or None
        Share of the measurement's degrees of freedom that the result uses, 0 ... 1; the judge
        expects residuals smaller by it. None if unknown.
    deblurs : bool or None
        Whether the result is expected to be free of the microscope's blur, where that depends on
        the weights; None leaves it to the parameters.
    """

    halo_px: Triple = (0, 0, 0)
    curves: Mapping[str, list[float]] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    remark: str = ""
    weights_sha256: str = ""
    freedom: float | None = None
    deblurs: bool | None = None

    @abstractmethod
    def __call__(self, tile: FloatArray, origin_px: Triple) -> TileGenerator:
        """Enhance a float32 tile (Z, Y, X) that includes its halo and begins at ``origin_px``.

        The generator yields the fraction done (0 ... 1) at least once a second and returns a
        mapping from output name to float32 array. Each array has the tile's shape times the output
        scale, after the number of samples where the output is a series.
        """


@dataclass(frozen=True, slots=True)
class Reference:
    """A paper, as a bibliography needs it.

    Parameters
    ----------
    key : str
        Of its BibTeX entry, such as ``lucy1974``.
    authors : str
        As BibTeX writes them: ``Lucy, L. B. and Other, A.``
    title, journal : str
        In full; for a proceedings, its name.
    year : int
        Of publication.
    doi : str
        Without ``https://doi.org/``.
    """

    key: str
    authors: str
    title: str
    journal: str
    year: int
    doi: str

    @property
    def text(self) -> str:
        """The reference in one line."""
        return f"{self.authors.replace(' and ', '; ')} ({self.year}). {self.title}. {self.journal}."

    def bibtex(self) -> str:
        """Return the BibTeX entry."""
        fields = (
            ("author", self.authors),
            ("title", f"{{{self.title}}}"),
            ("journal", self.journal),
            ("year", str(self.year)),
            ("doi", self.doi),
        )
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields)
        return f"@article{{{self.key},\n{lines}\n}}"


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """The facts of a method that no setting changes.

    Parameters
    ----------
    name : str
        As typed on the command line.
    title, summary : str
        For menus, and one sentence on when to use it.
    parameters : type of MethodParameters
        The settings' model; its properties are the facts that depend on settings.
    size_multiple : tuple of int
        Tiles begin and end on multiples of this, on the volume's own grid.
    bytes_per_voxel : int
        Working memory per voxel of a tile, halo included, on the device; the memory of a series of
        samples is added to it.
    stochastic : bool
        Whether the seed matters.
    learns : {'no', 'pairs', 'own_stack'}
        What it can learn from.
    source : str
        Paper and equation.
    references : tuple of Reference
        Papers to cite, the most important one first.
    """

    name: str
    title: str
    summary: str
    parameters: type[MethodParameters]
    size_multiple: Triple = (1, 1, 1)
    bytes_per_voxel: int = 64
    stochastic: bool = False
    learns: Literal["no", "pairs", "own_stack"] = "no"
    source: str = ""
    references: tuple[Reference, ...] = ()

    @property
    def defaults(self) -> MethodParameters:
        """The parameters with no setting changed."""
        return self.parameters()


class Method(Protocol):
    """A method as the registry returns it; its module imports no torch, ``prepare`` can."""

    @property
    def spec(self) -> MethodSpec:
        """The method's facts."""
        ...

    def plan_halo_px(self, plan: PlanContext) -> Triple:
        """Return the halo (z, y, x) to plan with before anything has run.

        ``Prepared.halo_px`` does not exceed it, unless ``prepare`` was not allowed the whole volume
        at once (``MethodContext.whole_voxels``).
        """
        ...

    def prepare(self, context: MethodContext) -> Generator[float, None, Prepared]:
        """Do the work that is done once per volume and must not depend on tiles.

        Yields the fraction done and returns the prepared method.
        """
        ...
