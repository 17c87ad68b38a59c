"""Figure of the reverse process of diffusion, drawn with our own model.

::

    forward    t = 0        0.25   0.5   0.75   1
    state      start here   ...                     from the measurement, at its own timestep
    estimate   of each state               truth
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np

from benchmarks.scenes import Scene
from zenhance.contract import registry
from zenhance.contract.settings import validate
from zenhance.contract.spec import MethodContext
from zenhance.errors import MethodError
from zenhance.measurement.reader import VolumeReader
from zenhance.measurement.volume import measure, measure_noise
from zenhance.steps import drain
from zenhance.types import FloatArray

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from zenhance.methods.diffusion.forward_process import Timestep
    from zenhance.methods.diffusion.inference import DiffusionSampler

__all__ = ["way_back_picture"]

METHOD = "diffusion"
STEPS = 5
SIDE_PX, ZOOM, GAP_PX, MARGIN_PX, TITLE_PX = 72, 3, 6, 84, 22
BLACK_QUANTILE, WHITE_QUANTILE = 0.5, 99.7
Named = list[tuple[str, FloatArray]]


def way_back_picture(scene: Scene, *, device: str = "cpu", weights: str | None = None) -> Image:
    """Draw the forward process of a truth, and the five reverse steps from its measurement.

    Parameters
    ----------
    scene : Scene
        A simulated stack; its brightest plane is drawn.
    device : str
        Where to compute.
    weights : str, optional
        Of diffusion; left out, its default.
    """
    restorer = drain(_prepared(scene, device, weights))
    plane = int(np.argmax(scene.truth.mean(axis=(1, 2))))
    forward, states, estimates = _drawn(scene, restorer, plane)
    truth = ("truth", _cropped(restorer.scaling.forward(scene.truth)[plane]))
    return _assembled([("forward", forward), ("state", states), ("estimate", [*estimates, truth])])


def _prepared(
    scene: Scene, device: str, weights: str | None
) -> Generator[float, None, DiffusionSampler]:
    reader = VolumeReader(scene.measured)
    statistics, _ = measure([reader])
    method = registry.load(METHOD)
    context = MethodContext(
        parameters=validate(method.spec.parameters, {"steps": STEPS}, "setting", MethodError),
        shape_px=scene.measured.volume_shape,
        voxel_size_um=scene.voxel_size_um,
        statistics=statistics,
        read=reader.read,
        device=device,
        psf=scene.psf,
        noise=measure_noise([reader], statistics),
        weights=weights,
    )
    return cast("DiffusionSampler", (yield from method.prepare(context)))


def _drawn(scene: Scene, restorer: DiffusionSampler, plane: int) -> tuple[Named, Named, Named]:
    """Return what the three rows show."""
    import torch

    from zenhance.methods.diffusion.forward_process import degraded
    from zenhance.methods.diffusion.inference import reverse

    grey = torch.from_numpy(scene.measured.read().astype(np.float32)).to(restorer.device)
    truth = torch.from_numpy(restorer.scaling.forward(scene.truth)).to(restorer.device)
    level = restorer.timestep
    states: Named = []
    estimates: Named = []

    def shown(image: Tensor) -> FloatArray:
        return _cropped(np.asarray(image[plane].cpu().numpy(), np.float32))

    def watched(state: Tensor, at: Timestep) -> Generator[float, None, Tensor]:
        states.append((("start here, " if not states else "") + f"t = {at.t:.2f}", shown(state)))
        estimate = yield from restorer.predict(state, at)
        estimates.append(
            (
                f"estimate {len(estimates) + 1}",
                shown(
                    restorer.make_consistent(grey, estimate) if restorer.consistency else estimate
                ),
            )
        )
        return estimate

    normal = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0)).to(
        restorer.device
    )
    ways = (0.0, level.t / 2, level.t, (1 + level.t) / 2, 1.0)
    forward = [
        (
            f"t = {t:.2f}" + (", as measured" if t == level.t else ""),
            shown(degraded(truth, level.at(t), normal)),
        )
        for t in ways
    ]
    with torch.inference_mode():
        measured = (grey - restorer.scaling.offset) / restorer.scaling.span
        agree = partial(restorer.make_consistent, grey) if restorer.consistency else None
        drain(reverse(watched, measured, level, STEPS, "cold", agree=agree))
    return forward, states, estimates


def _cropped(plane: FloatArray) -> FloatArray:
    top, left = ((n - min(n, SIDE_PX)) // 2 for n in plane.shape)
    return plane[top : top + SIDE_PX, left : left + SIDE_PX]


def _assembled(rows: list[tuple[str, Named]]) -> Image:
    from PIL import Image, ImageDraw, ImageFont

    width = max(len(images) for _, images in rows)
    side = ZOOM * SIDE_PX
    picture = Image.new(
        "L", (MARGIN_PX + width * (side + GAP_PX), len(rows) * (TITLE_PX + side + GAP_PX)), 255
    )
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=14)
    black, white = np.percentile(rows[-1][1][-1][1], [BLACK_QUANTILE, WHITE_QUANTILE])
    for number, (title, images) in enumerate(rows):
        top = number * (TITLE_PX + side + GAP_PX)
        draw.text((6, top + TITLE_PX + 4), title, fill=0, font=font)
        for column, (name, plane) in enumerate(images):
            left = MARGIN_PX + column * (side + GAP_PX)
            draw.text((left, top + 3), name, fill=0, font=font)
            grey = np.clip((plane - black) / max(float(white - black), 1e-12) * 255, 0, 255).astype(
                np.uint8
            )
            picture.paste(
                Image.fromarray(grey).resize(
                    (ZOOM * grey.shape[1], ZOOM * grey.shape[0]), Image.Resampling.NEAREST
                ),
                (left, top + TITLE_PX),
            )
    return picture
