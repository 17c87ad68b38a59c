"""Measured beads: found, centred, averaged, cleaned and resampled, or refused in one sentence."""

import numpy as np
import pytest
from tifffile import imread

from zenhance.errors import MethodError, StackError
from zenhance.physics.psf import measured

VOXEL = (0.2, 0.08, 0.08)
SIGMA_UM = (0.5, 0.16, 0.2)
CENTRES = [(15.3, 20.4, 22.0), (16.0, 71.5, 30.2), (14.6, 40.1, 78.7)]


def _beads(
    centres: list[tuple[float, float, float]],
    shape: tuple[int, int, int] = (31, 96, 104),
    peak: float = 400.0,
) -> np.ndarray:
    grid = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij")
    light = np.zeros(shape)
    for centre in centres:
        exponent = sum(
            ((g - c) * v / s) ** 2 for g, c, v, s in zip(grid, centre, VOXEL, SIGMA_UM, strict=True)
        )
        light += peak * np.exp(-0.5 * exponent)
    return np.random.default_rng(0).poisson(light + 20.0) + 100.0


def _centroid(kernel: np.ndarray) -> list[float]:
    return [
        float(
            (
                kernel.sum(axis=tuple(b for b in range(3) if b != a))
                * (np.arange(kernel.shape[a]) - kernel.shape[a] // 2)
            ).sum()
        )
        for a in range(3)
    ]


def test_beads_between_the_voxels_are_centred_averaged_and_measured() -> None:
    psf = measured(_beads(CENTRES), VOXEL, "beads.tif")
    assert {v.name: v.value for v in psf.values}["beads"] == 3
    assert psf.sigma_um == pytest.approx(SIGMA_UM, rel=0.05)
    kernel = psf.kernel(VOXEL)
    assert kernel.sum() == pytest.approx(1.0, abs=1e-6)
    assert kernel.min() >= 0.0
    assert all(n % 2 == 1 for n in kernel.shape)
    assert np.unravel_index(kernel.argmax(), kernel.shape) == tuple(n // 2 for n in kernel.shape)
    assert _centroid(kernel) == pytest.approx([0.0, 0.0, 0.0], abs=0.12)


@pytest.mark.parametrize("voxel", [(0.2, 0.08, 0.08), (0.1, 0.04, 0.04), (0.3, 0.12, 0.12)])
def test_resampled_to_other_voxels_it_keeps_its_width_in_micrometres(
    voxel: tuple[float, float, float],
) -> None:
    kernel = measured(_beads(CENTRES), VOXEL).kernel(voxel).astype(float)
    for axis, sigma in enumerate(SIGMA_UM):
        profile = kernel.sum(axis=tuple(b for b in range(3) if b != axis))
        offsets = (np.arange(profile.size) - profile.size // 2) * voxel[axis]
        width = np.sqrt((profile * offsets**2).sum())
        # Averaging over a voxel adds its own variance, voxel^2 / 12, interpolation adds less than
        # that.
        assert sigma * 0.9 < width < np.sqrt(sigma**2 + voxel[axis] ** 2 / 6.0) * 1.06


def test_the_background_leaves_no_trace() -> None:
    kernel = measured(_beads(CENTRES), VOXEL).kernel(VOXEL)
    edge = np.concatenate([np.take(kernel, (0, -1), axis=a).ravel() for a in range(3)])
    assert edge.max() < 0.02 * kernel.max()


def test_one_bead_alone_is_enough() -> None:
    psf = measured(_beads(CENTRES[:1], (31, 41, 45)), VOXEL)
    assert {v.name: v.value for v in psf.values}["beads"] == 1
    assert psf.sigma_um == pytest.approx(SIGMA_UM, rel=0.08)


def test_a_picture_of_a_bead_blurs_a_picture() -> None:
    psf = measured(_beads(CENTRES)[15], VOXEL)
    assert psf.kernel(VOXEL, ndim=2).shape[0] == 1
    assert psf.sigma_um[1:] == pytest.approx(SIGMA_UM[1:], rel=0.1)


def test_the_plane_in_focus_serves_a_two_dimensional_image() -> None:
    psf = measured(_beads(CENTRES), VOXEL)
    flat = psf.kernel(VOXEL, ndim=2)
    assert flat.shape[0] == 1
    assert flat.sum() == pytest.approx(1.0, abs=1e-6)
    assert psf.radius_px(VOXEL, ndim=2) == tuple(n // 2 for n in flat.shape)


def test_beads_cut_by_the_border_are_refused() -> None:
    with pytest.raises(
        StackError, match=r"no bead is wholly in view and alone: .* crop around one bead"
    ):
        measured(_beads([(1.0, 2.0, 3.0)], (31, 41, 45)), VOXEL)


def test_beads_on_top_of_each_other_are_left_out() -> None:
    crowd = [(15.0, 20.0, 22.0), (15.0, 20.0, 31.0), (15.0, 70.0, 75.0)]
    psf = measured(_beads(crowd), VOXEL)
    assert {v.name: v.value for v in psf.values}["beads"] == 1
    assert psf.sigma_um == pytest.approx(SIGMA_UM, rel=0.08)


def test_noise_alone_is_refused() -> None:
    noise = np.random.default_rng(1).normal(100.0, 5.0, (15, 40, 40))
    with pytest.raises(StackError, match=r"no bead is wholly in view|times above the noise, not 8"):
        measured(noise, VOXEL, "dark.tif")


@pytest.mark.parametrize(
    ("beads", "message"),
    [
        (np.zeros((5, 5)), r"the bead image is constant or has values that are not finite"),
        (
            np.full((5, 9, 9), np.nan),
            r"the bead image is constant or has values that are not finite",
        ),
        (np.zeros((2, 2, 5, 5)), r"a bead image of shape \(2, 2, 5, 5\) cannot be used"),
        (np.ones((3, 3)), r"of 5 pixels or more"),
    ],
)
def test_what_is_no_bead_image_is_refused(beads: np.ndarray, message: str) -> None:
    with pytest.raises(StackError, match=message):
        measured(beads, VOXEL)


# Half widths measured by hand on the profiles through the brightest voxel: FWHM z and x in µm.
REAL = {
    "confocal_beads_mpicbg.tif": (0.125, 0.0224918, 4),
    "measured_psf_pycudadecon.tif": (0.1, 0.101085, 1),
    "measured_psf_redlionfish.tif": (0.3, 0.3, 1),
    "widefield_bead_kernel.tif": (0.2, 0.1, 1),
}


@pytest.mark.parametrize("name", REAL)
def test_real_beads_become_a_psf(shared_data, name: str) -> None:
    dz, dx, beads = REAL[name]
    stack = imread(shared_data / "fluorescence" / name)
    psf = measured(stack, (dz, dx, dx), name)
    assert {v.name: v.value for v in psf.values}["beads"] == beads
    kernel = psf.kernel((dz, dx, dx))
    assert kernel.sum() == pytest.approx(1.0, abs=1e-6)
    assert all(n % 2 == 1 for n in kernel.shape)
    peak = np.unravel_index(int(stack.argmax()), stack.shape)
    column = stack[:, peak[1], peak[2]].astype(float) - np.median(stack)
    above = np.flatnonzero(column > column.max() / 2.0)
    width_um = (above[-1] - above[0] + 1) * dz
    assert psf.sigma_um[0] * 2.3548 == pytest.approx(width_um, abs=1.2 * dz + 0.25 * width_um)


def test_a_grid_is_not_taken_for_beads(shared_data) -> None:
    stack = imread(shared_data / "fluorescence" / "confocal_vertical_grid_1AU_mpicbg.tif")
    with pytest.raises(
        StackError, match=r"no bead is wholly in view and alone|times above the noise"
    ) as caught:
        measured(stack, (0.125, 0.022, 0.022), "grid.tif")
    assert len(str(caught.value)) <= 240


def test_voxels_far_too_fine_for_the_beads_are_refused() -> None:
    psf = measured(_beads(CENTRES[:1], (31, 41, 45)), VOXEL)
    with pytest.raises(
        MethodError,
        match=r"voxels does not fit into memory; check the voxel size \[0\.001, 0\.001, 0\.001\] "
        r"µm",
    ):
        psf.kernel((0.001, 0.001, 0.001))
