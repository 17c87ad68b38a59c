"""How training volumes were measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zenhance.contract.learner import Scaling
from zenhance.errors import RecipeError
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.psf import gaussian
from zenhance.physics.psf_diffraction import airy
from zenhance.simulate.presets import microscope
from zenhance.simulate.samples import simulate
from zenhance.training.data import load_volumes
from zenhance.training.optics import grown_psf, optics_of_camera, optics_of_specimen
from zenhance.training.patches import PatchSampler
from zenhance.training.pseudo_pairs import resimulate
from zenhance.training.recipe import Recipe

SCALING = Scaling(130.0, 400.0)


@pytest.mark.parametrize("preset", ["filaments_set1", "filaments_set2"])
def test_simulated_optics_expect_what_the_microscope_measures(preset: str) -> None:
    specimen = simulate(
        "filaments",
        seed=900,
        shape_px=(1, 96, 96),
        voxel_size_um=(0.1, 0.025, 0.025),
        microscope=microscope(preset),
    )
    optics = optics_of_specimen(specimen, SCALING)(0)
    light = torch.from_numpy(SCALING.forward(np.asarray(specimen.truth.data))) - optics.dark
    expected, blurred = (
        optics.expected(light).numpy(),
        SCALING.forward(np.asarray(specimen.blurred.data)),
    )
    inside = (
        slice(None),
        slice(20, -20),
        slice(20, -20),
    )  # the field's edges also get light from beyond
    np.testing.assert_allclose(expected[inside], blurred[inside], atol=2e-3 * float(blurred.max()))
    residual = SCALING.forward(np.asarray(specimen.measured.data, np.float32)) - blurred
    normed = residual / np.sqrt(optics.variance(torch.from_numpy(blurred)).numpy())
    assert float(normed.std()) == pytest.approx(1, abs=0.03)


def test_deep_planes_are_blurred_more_and_have_haze() -> None:
    specimen = simulate("meristem", seed=900, shape_px=(20, 48, 48), voxel_size_um=(1.0, 0.3, 0.3))
    optics = optics_of_specimen(specimen, SCALING)
    point = torch.zeros(1, 41, 41)
    point[0, 20, 20] = 1.0
    shallow, deep = (optics(z).expected(point) - optics(z).base for z in (4, 19))
    assert len(optics(4).parts) <= len(optics(19).parts) == 2
    assert float(deep.max()) < 0.6 * float(shallow.max())


def test_a_stack_is_taken_to_be_dark_at_its_background() -> None:
    optics = optics_of_camera(
        gaussian((0.4, 0.2, 0.2)), PoissonGauss(2.0, 130.0, 6.0), (0.5, 0.2, 0.2), SCALING
    )(3)
    assert optics.dark == optics.base == optics.no_photons == 0
    assert float(optics.variance(torch.tensor(0.5))) == pytest.approx(
        (2.0 / 400) * 0.5 + (6.0 / 400) ** 2
    )
    light = torch.rand(2, 5, 32, 32, requires_grad=True)
    expected = optics.expected(light)
    expected.sum().backward()
    assert float(expected.detach().mean()) == pytest.approx(float(light.detach().mean()), rel=1e-5)
    assert light.grad is not None
    assert float((light.grad - 1).abs().max()) < 1e-5


def test_batches_tell_the_optics_of_their_patches() -> None:
    recipe = Recipe(
        method="rdn",
        name="x",
        data={
            "simulated": [
                {
                    "specimen": "filaments",
                    "count": 2,
                    "validation": 1,
                    "shape_px": [1, 64, 64],
                    "voxel_size_um": [0.1, 0.025, 0.025],
                    "microscopes": [{"preset": "filaments_set1"}, {"preset": "filaments_set2"}],
                }
            ]
        },
    )
    train, _ = load_volumes(recipe)
    batch = PatchSampler(train, (1, 32, 32), 12, 0, with_optics=True).draw(0)
    assert len(batch.optics) == 12
    assert {id(o) for o in batch.optics} == {id(v.optics(0)) for v in train}
    assert PatchSampler(train, (1, 32, 32), 12, 0).draw(0).optics == ()


def test_a_psf_that_grows_with_depth_blurs_deep_planes_more_and_keeps_the_light() -> None:
    psf, noise, size = gaussian((0.4, 0.2, 0.2)), PoissonGauss(1e-6, 0.0, 0.0), (0.5, 0.2, 0.2)
    points = np.zeros((24, 41, 41), np.float32)
    points[4, 20, 20] = points[19, 20, 20] = 1e4
    grown = resimulate(points, psf, noise, size, 0, growth=2.0)
    plain = resimulate(points, psf, noise, size, 0)
    assert float(grown[4].max()) > 1.3 * float(plain[4].max())
    assert float(grown[19].max()) < 0.8 * float(plain[19].max())
    assert float(grown.sum()) == pytest.approx(2e4, rel=1e-3)
    optics = optics_of_camera(psf, noise, size, Scaling(0.0, 1.0), 24, 2.0)
    shallow, deep = (optics(z).parts[0][1].sigma_um[1] for z in (0, 23))
    assert deep / shallow == pytest.approx(2.0)


def test_only_a_gaussian_psf_can_grow() -> None:
    with pytest.raises(RecipeError, match="Gaussian"):
        grown_psf(airy(1.1, 1.33, 520.0), 1.5, 0.5)


def test_a_patch_is_turned_by_a_quarter_only_where_the_blur_allows_it() -> None:
    noise, size = PoissonGauss(1.0, 0.0, 1.0), (0.5, 0.2, 0.2)
    round_, long = (
        optics_of_camera(gaussian(s), noise, size, SCALING)(0)
        for s in ((0.4, 0.2, 0.2), (0.4, 0.3, 0.2))
    )
    assert round_.turns
    assert not long.turns
