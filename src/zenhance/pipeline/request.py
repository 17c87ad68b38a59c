"""EnhanceRequest: all that decides a result, in one frozen object that reads and writes YAML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from zenhance.contract import registry
from zenhance.contract.settings import explain, validate
from zenhance.contract.spec import MethodParameters, OutputSpec
from zenhance.errors import ReadError, RecipeError, WriteError
from zenhance.io import inspect_image
from zenhance.io.commit import commit
from zenhance.io.names import is_image_folder
from zenhance.pipeline.arbitration import NETWORK_SHARE, can_arbitrate
from zenhance.pipeline.denoised import check_denoised, denoised_outputs
from zenhance.pipeline.even_light import check_even
from zenhance.provenance import Provenance
from zenhance.stack import AXES, Stack, VoxelSize
from zenhance.wording import hint_for, quoted
from zenhance.yaml_text import load_yaml, read_text

__all__ = [
    "MEASURE",
    "NO_PROFILE",
    "NO_WEIGHTS",
    "EnhanceRequest",
    "read_request",
    "replayed",
    "write_request",
]

NO_WEIGHTS = "none"
"""What ``weights`` is to begin learning from random ones."""

MEASURE = "measure"
"""What ``profile`` is to measure the microscope on the stack."""
NO_PROFILE = "none"
"""What ``profile`` is to use one PSF for all depths."""

Range = tuple[int | None, int | None]


def _three_lengths(value: Any) -> Any:
    """Let two numbers stand for (y, x)."""
    if isinstance(value, VoxelSize):
        return value.zyx_um
    return (None, *value) if isinstance(value, list | tuple) and len(value) == 2 else value


class EnhanceRequest(BaseModel):
    """What to do with a stack; dock, command line, Python and YAML files all build this object.

    Raises
    ------
    RecipeError
        A field is unknown or out of range.
    MethodError
        The method is unknown or one of its settings is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: str = Field(
        "gaussian_deconvolution", description="name of the method, as `zenhance methods` lists it"
    )
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="settings of the method; what is left out keeps its default",
    )
    axes: str | None = Field(
        None,
        description=(
            "axes of the input, such as TZCYX, where those of the file are wrong or missing"
        ),
    )
    series: int = Field(0, ge=0, description="image of a file that holds several, counted from 0")
    voxel_size_um: Annotated[
        tuple[float | None, float | None, float | None] | None, BeforeValidator(_three_lengths)
    ] = Field(
        None, description="voxel size z, y, x in µm, in place of the file's; null keeps a length"
    )
    channel: int | None = Field(
        None, ge=0, description="the one channel to enhance, counted from 0; left out, all are"
    )
    crop: tuple[Range, Range, Range] | None = Field(
        None, description="first and last+1 voxel along z, y, x; null is the stack's edge"
    )
    psf: str | None = Field(
        None,
        description="point spread function, such as sigma_um=0.5,0.15,0.15; left out, from the "
        "file or a default",
    )
    profile: str | None = Field(
        None,
        min_length=1,
        description="microscope by depth: measure, a profile file, or none for one psf at all "
        "depths; left out, it is measured to deblur where neither file nor psf gives the blur",
    )
    even_light: bool = Field(
        False,
        description="divide the result by the light at each depth, for looking and segmenting",
    )
    arbitrate: bool = Field(
        True,
        description="use a trained method's estimate only where it predicts held-out photons "
        "better than deconvolution, and deconvolution elsewhere",
    )
    background: float | None = Field(
        None,
        description="intensity without specimen, in the input's units; left out, it is estimated",
    )
    repair_outliers: bool = Field(
        True,
        description="replace hot and dead pixels by the median of their neighbours",
    )
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda or mps"
    )
    weights: str | None = Field(
        None,
        description="name or path of trained weights; left out, those that ship; none: learn from "
        "random ones",
    )
    learn_minutes: float | None = Field(
        None,
        gt=0,
        le=24 * 60,
        description="learn from the stack itself for so many minutes first; left out, the weights "
        "are used as they are",
    )
    output: Literal["sharp", "denoised"] = Field(
        "sharp",
        description="sharp: the estimate of the method; denoised: that estimate blurred by the "
        "PSF again, without noise and at the resolution of the microscope",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of every random draw")
    dtype: Literal["float32", "input"] = Field(
        "float32", description="pixel type of the result; 'input' rounds and clips, and counts it"
    )
    statistics: Literal["per_volume", "shared"] = Field(
        "per_volume", description="statistics of each time point, or one for all"
    )
    tile_px: tuple[int, int, int] | None = Field(
        None, description="largest tile z, y, x in pixels; left out, planned from free memory"
    )

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise RecipeError(explain(error, type(self), "request field")) from error

    @model_validator(mode="after")
    def _check(self) -> EnhanceRequest:
        if self.axes is not None and (
            set(self.axes) - set(AXES) or len(set(self.axes)) != len(self.axes)
        ):
            raise RecipeError(
                f'axes are "{self.axes}"; use letters of TCZYX, each once, for example ZYX'
            )
        if self.tile_px is not None and min(self.tile_px) < 1:
            raise RecipeError(f"tile_px is {self.tile_px}; each number must be at least 1")
        self._check_learning()
        self._check_weights()
        VoxelSize.of(self.voxel_size_um or (None, None, None))
        for letter, (start, stop) in zip("zyx", self.crop or (), strict=False):
            if (start or 0) < 0 or (stop is not None and stop <= (start or 0)):
                raise RecipeError(
                    f"crop {letter}{start}:{stop} is empty or negative; give first:last+1, counted "
                    "from 0"
                )
        return self

    def _check_weights(self) -> None:
        """Refuse weights for a method that has none: they belong to another method."""
        if (
            self.weights is None
            or self.method not in registry.names()
            or registry.load(self.method).spec.learns != "no"
        ):
            return
        can = ", ".join(
            name for name in registry.names() if registry.load(name).spec.learns != "no"
        )
        raise RecipeError(
            f"the method {self.method} uses no trained weights; name the method that these belong "
            f"to ({can}), or leave them out"
        )

    def _check_learning(self) -> None:
        if self.learn_minutes is None:
            if self.weights == NO_WEIGHTS:
                raise RecipeError(
                    'weights "none" start from random values; give learn_minutes too, '
                    "or the name of a model"
                )
            return
        # A method that is not installed is refused when its settings are asked for.
        if (
            self.method in registry.names()
            and registry.load(self.method).spec.learns != "own_stack"
        ):
            can = ", ".join(
                name for name in registry.names() if registry.load(name).spec.learns == "own_stack"
            )
            raise RecipeError(
                f"the method {self.method} cannot learn from the stack itself; choose one that can "
                f"({can}), or drop learn_minutes"
            )

    def parameters(self) -> MethodParameters:
        """Return the method's settings, validated and completed with defaults.

        Raises
        ------
        MethodError
            The method or a setting is unknown, or a value is out of range.
        """
        spec = registry.load(self.method).spec
        parameters = validate(spec.parameters, self.settings, f"setting of {self.method}")
        if self.output == "denoised":
            check_denoised(parameters, self.method)
        if self.even_light:
            check_even(parameters, self.method)
        return parameters

    def outputs(self) -> tuple[OutputSpec, ...]:
        """Return the images of the result, the enhanced one first."""
        outputs = self.parameters().outputs
        if self.output == "denoised":
            outputs = denoised_outputs(outputs)
        return (*outputs, NETWORK_SHARE) if self.arbitrates else outputs

    @property
    def arbitrates(self) -> bool:
        """Whether a trained method competes with deconvolution in this run."""
        return self.arbitrate and can_arbitrate(registry.load(self.method).spec, self.parameters())

    def needs_psf(self) -> bool:
        """Return whether the run needs a point spread function: the method, or the output."""
        parameters = self.parameters()
        reblurs = self.output == "denoised" and parameters.deblurs
        return parameters.needs_psf or self.learn_minutes is not None or reblurs

    @property
    def needs_blur_by_depth(self) -> bool:
        """Whether the run is better with the blur of each depth than with one PSF.

        It is where the method needs a PSF in 3-D, and where a network competes with deconvolution.
        """
        p = self.parameters()
        return self.arbitrates or (p.deblurs and p.needs_psf and p.solved_dimensions == 3)

    @property
    def needs_profile(self) -> bool:
        """Whether the run needs a microscope profile in any case."""
        return self.profile not in (None, NO_PROFILE) or self.even_light

    def apply_to(self, stack: Stack, *, axes_named: bool = False) -> Stack:
        """Return the stack as this request wants it read: axes, voxel size, channel and crop.

        Parameters
        ----------
        stack : Stack
            The input.
        axes_named : bool
            Whether the stack was already read with the axes of this request.

        Raises
        ------
        StackError
            Axes, channel or crop do not fit the stack.
        """
        if self.axes is not None and self.axes != stack.axes and not axes_named:
            stack = stack.relabelled(self.axes)
        if self.voxel_size_um is not None:
            stack = stack.with_data(
                stack.data, voxel_size=stack.voxel_size.replaced_by(self.voxel_size_um)
            )
        if self.channel is not None:
            stack = stack.pick_channel(self.channel)
        if self.crop is not None:
            wanted = {
                a: slice(*r) for a, r in zip("ZYX", self.crop, strict=True) if a in stack.axes
            }
            stack = stack.crop(wanted)
        return stack

    def to_yaml(self) -> str:
        """Return the request as YAML: the method, and what differs from the defaults."""
        fields = self.model_dump(mode="json", exclude_defaults=True)
        return yaml.safe_dump(
            {"method": self.method, **fields}, sort_keys=False, allow_unicode=True
        )

    @classmethod
    def from_yaml(cls, text: str) -> EnhanceRequest:
        """Read what :meth:`to_yaml` wrote, or the provenance record of an earlier result.

        Raises
        ------
        RecipeError
            The text is no YAML mapping, or a key or value is wrong.
        MethodError
            The method is unknown.
        """
        fields = load_yaml(text, "the settings")
        if not isinstance(fields, dict):
            raise RecipeError(
                "the settings are not a list of key: value lines; begin with method: "
                "gaussian_deconvolution"
            )
        if isinstance(fields.get("request"), dict):
            fields = replayed(fields)
        unknown = [str(key) for key in fields if key not in cls.model_fields]
        if unknown:
            raise RecipeError(
                f"there is no request field called {quoted(unknown[0])}; "
                f"{hint_for(unknown[0], cls.model_fields)}"
            )
        request = cls(**fields)
        request.parameters()
        return request


def replayed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the request in a record, with the microscope profile that its run used.

    A profile that was measured or read from a file is given in full, so that a replay does not
    depend on the file.
    """
    fields = dict(record["request"])
    profiles = (record.get("notes") or {}).get("profiles")
    if profiles and fields.get("profile") != NO_PROFILE:
        fields["profile"] = json.dumps(profiles, sort_keys=True)
    return fields


WANTED = "a YAML file with settings, or a result of zenhance"


def read_request(path: Path) -> EnhanceRequest:
    """Read a request from a YAML file, from a run's record, or from an image that a run wrote.

    Raises
    ------
    ReadError
        The file cannot be read, or the image holds no record of a run.
    RecipeError, MethodError
        The text is not a request; the sentence names the key.
    """
    name = path.name.lower()
    if name.endswith((".tif", ".tiff", ".zarr")) or is_image_folder(path):
        record = Provenance.find(inspect_image(path).metadata)
        if record is None:
            raise ReadError(
                path, f"it holds no record of a run, as zenhance did not write it; give {WANTED}"
            )
        return EnhanceRequest(**replayed(record.model_dump(mode="json")))
    return EnhanceRequest.from_yaml(read_text(path, WANTED))


def write_request(path: Path, request: EnhanceRequest, overwrite: bool) -> None:
    """Write a request as YAML, completely or not at all.

    Raises
    ------
    OutputExistsError
        The file exists and ``overwrite`` is false.
    WriteError
        The folder is missing or cannot be written, or the disk is full; an existing file is kept.
    """
    content = request.to_yaml().encode()

    def fill(partial: Path) -> None:
        partial.write_bytes(content)

    def check(partial: Path) -> None:
        if partial.read_bytes() != content:
            raise WriteError(
                f'the settings in "{path}" read back differently; write them to another folder'
            )

    commit(path, fill, verify=check, needed_bytes=len(content), overwrite=overwrite)
