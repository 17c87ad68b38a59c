"""A run with a microscope profile: blur by depth, stop by depth, even light, replay."""

import json
import threading

import numpy as np
import pytest
from scipy import ndimage

from zenhance.contract.spec import VolumeStatistics
from zenhance.errors import MethodError, RecipeError, RunCancelled, StackError
from zenhance.physics.noise import PoissonGauss
from zenhance.physics.profile import DepthCurve, MicroscopeProfile, Quantity
from zenhance.physics.psf import gaussian
from zenhance.pipeline import EnhanceRequest, Progress, enhance
from zenhance.pipeline.assessing import assess_result
from zenhance.pipeline.profile import measured_by_default, profiled_volume
from zenhance.stack import Stack, VoxelSize
from zenhance.steps import drain

VOXEL = (1.0, 0.25, 0.25)
SHAPE = (48, 40, 40)
CAMERA = PoissonGauss(2.0, 100.0, 2.0)
LENGTH_UM = 30.0


def make_profile(
    z: tuple[float, ...] = (0.6, 1.8), yx: tuple[float, ...] = (0.2, 0.6), length: float = LENGTH_UM
) -> MicroscopeProfile:
    def curve(values: tuple[float, ...]) -> DepthCurve:
        depths = tuple(float(d) for d in np.linspace(0.0, 44.0, len(values)))
        return DepthCurve(
            depth_um=depths, values=values, low=values, high=values, origins=("user",) * len(values)
        )

    return MicroscopeProfile(
        voxel_size_um=VOXEL,
        gain=Quantity.given(CAMERA.gain),
        offset=Quantity.given(CAMERA.offset),
        read_noise=Quantity.given(CAMERA.read_noise),
        background=Quantity.given(CAMERA.offset),
        attenuation_um=Quantity.given(length),
        bleached_per_plane=Quantity.given(0.0),
        brightness=curve((1.0,)),
        haze=curve((0.0,)),
        sigma_z_um=curve(z),
        sigma_yx_um=curve(yx),
    )


def make_scene(
    profile: MicroscopeProfile, photons: float = 1500.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return rods in all directions as they are lit, grey values, and their photograph (scipy)."""
    rng = np.random.default_rng(1)
    light = np.zeros(SHAPE)
    for _ in range(500):
        way = rng.normal(size=3)
        points = rng.random(3) * SHAPE + np.linspace(-5, 5, 60)[:, None] * way / np.abs(way).max()
        index = np.floor(points).astype(int)
        inside = ((index >= (3, 0, 0)) & (index < SHAPE)).all(axis=1)
        light[tuple(index[inside].T)] = 1.0
    depth = np.clip(np.arange(SHAPE[0]) * VOXEL[0] - 3.0, 0.0, None)
    lit = light * photons * np.exp(-depth / profile.attenuation_um.value)[:, None, None]
    seen = np.zeros(SHAPE)
    for plane in range(SHAPE[0]):
        alone = np.zeros(SHAPE)
        alone[plane] = lit[plane]
        sigma = [s / v for s, v in zip(profile.sigma_at_um(depth[plane]), VOXEL, strict=True)]
        seen += ndimage.gaussian_filter(alone, sigma, mode="reflect")
    measured = np.clip(np.rint(CAMERA.sample(seen, 3)), 0, 65535).astype(np.uint16)
    return lit * CAMERA.gain + CAMERA.offset, measured


def as_json(profile: MicroscopeProfile) -> str:
    return json.dumps(profile.model_dump(mode="json"))


def decibels(image: np.ndarray, truth: np.ndarray) -> float:
    return 10.0 * float(np.log10(truth.var() / ((image - truth) ** 2).mean()))


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    return make_scene(make_profile())


def run(measured: np.ndarray, **fields: object) -> np.ndarray:
    result = enhance(measured, EnhanceRequest(voxel_size_um=VOXEL, device="cpu", **fields))
    return np.asarray(result.stack.data)


def test_blur_by_depth_beats_any_constant_blur_in_every_third(scene) -> None:
    lit, measured = scene
    profile = make_profile()
    ours = run(measured, profile=as_json(profile))
    parts = [slice(3, 18), slice(18, 33), slice(33, 48)]
    scores = [decibels(ours[part], lit[part]) for part in parts]
    whole = decibels(ours, lit)
    for depth in (0.0, 22.0, 44.0):
        z, y, x = profile.sigma_at_um(depth)
        other = run(measured, psf=f"sigma_um={z},{y},{x}", background=100.0)
        assert whole > decibels(other, lit)
        for part, score in zip(parts, scores, strict=True):
            # At its own depth a constant blur is as good; elsewhere it is worse.
            assert score > decibels(other[part], lit[part]) - 0.15
    assert scores[2] > decibels(run(measured, background=100.0)[parts[2]], lit[parts[2]]) + 0.5


def test_a_profile_that_does_not_change_gives_the_constant_result() -> None:
    profile = make_profile((0.8,), (0.3,))
    _, measured = make_scene(profile)
    settings = {"stop": "fixed", "iterations": 8}
    constant = run(measured, psf="sigma_um=0.8,0.3,0.3", background=100.0, settings=settings)
    ours = run(measured, profile=as_json(profile), settings=settings)
    # The camera is estimated without a profile, so the data are shifted alike only to its error.
    import torch

    from zenhance.physics.blur import Blur
    from zenhance.physics.profile_volume import ProfiledVolume
    from zenhance.solvers.richardson_lucy import RichardsonLucy
    from zenhance.solvers.schedule import CameraModel

    volume = ProfiledVolume(profile, np.zeros(SHAPE[1:], np.float32), SHAPE[0], VOXEL)
    y = torch.from_numpy(measured.astype(np.float32))[None]
    found = []
    for blur in (
        Blur.from_psf(gaussian((0.8, 0.3, 0.3)), VOXEL, SHAPE),
        volume.blur([volume.whole], "cpu"),
    ):
        solver = RichardsonLucy(blur, y, CameraModel(100.0, 2.0, 100.0, 2.0), 500.0)
        x, schedule = drain(solver.measure(8))
        found.append(solver.image(x, schedule).numpy())
    span = float(found[0].max() - found[0].min())
    assert np.abs(found[0] - found[1]).max() < 1e-5 * span
    assert np.corrcoef(ours.ravel(), constant.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("variant", ["richardson_lucy", "wiener"])
def test_tiles_with_a_profile_agree_with_the_whole(scene, variant: str) -> None:
    from zenhance.contract import registry
    from zenhance.contract.spec import MethodContext

    _, measured = scene
    profile = make_profile((0.5, 0.8), (0.2, 0.35))
    grey = measured.astype(np.float32)
    method = registry.load("gaussian_deconvolution")
    settings = {"variant": variant, "stop": "fixed", "iterations": 2}
    if variant == "wiener":
        settings["wiener_noise"] = 0.1
    volume = profiled_volume(Stack(measured, "ZYX", VoxelSize(*VOXEL)), 0, 0, profile)
    context = MethodContext(
        parameters=method.spec.parameters(**settings),
        shape_px=SHAPE,
        voxel_size_um=VOXEL,
        statistics=VolumeStatistics(
            90.0, float(grey.max()), float(grey.mean()), 30.0, 95.0, float(grey.max()), 100.0
        ),
        read=lambda region: grey[region],
        psf=profile.psf_at(20.0),
        noise=CAMERA,
        profiled=volume,
        # Blocks decide the schedule, so that tiles replay it.
        whole_voxels=SHAPE[0] * SHAPE[1] * SHAPE[2] - 1,
    )
    prepared = drain(method.prepare(context))
    whole = drain(prepared(grey, (0, 0, 0)))["enhanced"]
    halo, span = prepared.halo_px[0], float(whole.max() - whole.min())
    assert halo < 32
    top, bottom = slice(0, 40), slice(8, 48)
    above = drain(prepared(grey[top], (0, 0, 0)))["enhanced"]
    below = drain(prepared(grey[bottom], (8, 0, 0)))["enhanced"]
    assert np.abs(above[: 40 - halo] - whole[: 40 - halo]).max() < 1e-5 * span
    assert np.abs(below[halo:] - whole[8 + halo :]).max() < 1e-5 * span


def test_a_measured_profile_replays_to_identical_bytes(scene) -> None:
    _, measured = scene
    request = EnhanceRequest(voxel_size_um=VOXEL, device="cpu", profile="measure")
    first = enhance(measured, request)
    again = EnhanceRequest.from_yaml(first.provenance.to_json())
    assert MicroscopeProfile.model_validate(
        {**json.loads(again.profile)[0]}, strict=False
    ).gain.origin in ("measured", "default")
    second = enhance(measured, again)
    assert np.asarray(first.stack.data).tobytes() == np.asarray(second.stack.data).tobytes()
    assert first.provenance.notes["profiles"] == second.provenance.notes["profiles"]


def test_measuring_and_finding_the_surface_can_be_cancelled_between_their_steps(scene) -> None:
    _, measured = scene
    request = EnhanceRequest(voxel_size_um=VOXEL, device="cpu", profile="measure")

    def cancelled_at(wanted: str) -> list[float]:
        cancel, fractions = threading.Event(), []

        def tell(step: Progress) -> None:
            fractions.append(step.fraction)
            if step.message == wanted:
                cancel.set()

        with pytest.raises(RunCancelled):
            enhance(measured, request, on_progress=tell, cancel=cancel)
        assert cancel.is_set()
        return fractions

    for wanted in ("reading the stack", "measuring the blur", "finding the surface"):
        fractions = cancelled_at(wanted)
        assert fractions == sorted(fractions)


def test_the_middle_of_a_large_field_is_measured_over_the_whole_depth(monkeypatch) -> None:
    from zenhance.pipeline import profile as module

    rng = np.random.default_rng(0)
    stack = Stack(rng.poisson(50.0, (12, 160, 120)).astype(np.uint16), "ZYX", VoxelSize(*VOXEL))
    monkeypatch.setattr(module, "MAX_VOXELS", 12 * 80 * 80)
    seen = []

    def measure(volume, *_, **__):
        seen.append(volume)
        return make_profile()
        yield

    monkeypatch.setattr(module, "profile_steps", measure)
    request = EnhanceRequest(profile="measure")
    drain(module.profile_of_steps(stack, request, 0, gaussian((0.8, 0.3, 0.3))))
    rows, columns = seen[0].shape[1:]
    assert seen[0].shape[0] == 12
    assert rows * columns <= 80 * 80
    first = (160 - rows) // 2, (120 - columns) // 2
    inside = stack.data[:, first[0] : first[0] + rows, first[1] : first[1] + columns]
    assert np.array_equal(seen[0], inside)


@pytest.fixture(scope="module")
def wide(scene) -> np.ndarray:
    """The scene repeated, so that its field is large enough to be measured unasked."""
    return np.tile(scene[1], (1, 2, 2))


def test_deconvolution_measures_the_microscope_unasked_and_replays(wide) -> None:
    settings = {"stop": "fixed", "iterations": 2}
    request = EnhanceRequest(voxel_size_um=VOXEL, device="cpu", settings=settings)
    first = enhance(wide, request)
    asked = enhance(wide, request.model_copy(update={"profile": "measure"}))
    one = enhance(wide, request.model_copy(update={"profile": "none"}))
    pixels = [np.asarray(r.stack.data).tobytes() for r in (first, asked, one)]
    assert pixels[0] == pixels[1] != pixels[2]
    assert "profiles" not in one.provenance.notes
    again = EnhanceRequest.from_yaml(first.provenance.to_json())
    assert np.asarray(enhance(wide, again).stack.data).tobytes() == pixels[0]


@pytest.mark.parametrize(
    ("fields", "metadata"),
    [
        ({"psf": "sigma_um=0.8,0.3,0.3"}, {}),
        ({}, {"na": 0.9}),
        ({"method": "identity"}, {}),
        ({"settings": {"variant": "imagej", "iterations": 1}}, {}),
    ],
)
def test_nothing_is_measured_where_the_blur_is_told_or_is_one_for_all(
    wide, fields, metadata, monkeypatch
) -> None:
    from zenhance.pipeline import profile as module

    monkeypatch.setattr(module, "profile_steps", None)
    stack = Stack(wide[:10], "ZYX", VoxelSize(*VOXEL), metadata=metadata)
    settings = {"settings": {"stop": "fixed", "iterations": 1}} if "method" not in fields else {}
    result = enhance(stack, EnhanceRequest(device="cpu", **(settings | fields)))
    assert "profiles" not in result.provenance.notes
    assert "remark" not in result.provenance.notes


@pytest.mark.parametrize(
    ("fields", "z_um", "wanted"),
    [
        ({}, 1.0, True),
        ({"method": "rdn"}, 1.0, True),
        ({"method": "rdn"}, 0.5, False),
        ({"method": "rdn"}, None, False),
        ({"method": "rdn", "arbitrate": False}, 1.0, False),
        ({"method": "dqlr", "arbitrate": False}, 1.0, True),
        ({"method": "dqlr", "psf": "sigma_um=0.8,0.3,0.3"}, 1.0, False),
        ({"settings": {"variant": "imagej"}}, 1.0, False),
    ],
)
def test_what_needs_the_blur_measures_it_unasked(fields, z_um, wanted: bool) -> None:
    stack = Stack(np.zeros((20, 64, 64), np.float32), "ZYX", VoxelSize(z_um, 0.2, 0.2))
    assert measured_by_default(stack, EnhanceRequest(**fields)) is wanted


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((64, 64), "this image has one plane; the default PSF was used"),
        ((7, 64, 64), "this stack has 7 planes of 64 × 64 pixels"),
        ((12, 64, 44), "at least 8 planes of 48 × 48 pixels and 10 µm"),
    ],
)
def test_an_image_too_small_to_be_measured_keeps_the_default_psf_and_says_so(
    wide, shape, words, monkeypatch
) -> None:
    from zenhance.pipeline import profile as module

    monkeypatch.setattr(module, "profile_steps", None)
    image = wide[0, : shape[0], : shape[1]] if len(shape) == 2 else wide[: shape[0], : shape[1]]
    image = image[..., : shape[-1]]
    fields = {"voxel_size_um": VOXEL[-image.ndim :], "settings": {"stop": "fixed", "iterations": 1}}
    result = enhance(image, device="cpu", **fields)
    assert words in result.provenance.notes["remark"]
    one = enhance(image, device="cpu", profile="none", **fields)
    assert np.array_equal(result.stack.data, one.stack.data)


def test_a_blur_that_cannot_be_measured_keeps_the_default_psf_and_says_so() -> None:
    smooth = np.tile(np.linspace(100, 200, 64, dtype=np.float32), (10, 64, 1))
    fields = {"voxel_size_um": VOXEL, "settings": {"stop": "fixed", "iterations": 1}}
    result = enhance(smooth, device="cpu", **fields)
    assert "could not be measured on this stack" in result.provenance.notes["remark"]
    one = enhance(smooth, device="cpu", profile="none", **fields)
    assert np.array_equal(result.stack.data, one.stack.data)
    again = EnhanceRequest.from_yaml(result.provenance.to_json())
    assert np.array_equal(enhance(smooth, again).stack.data, one.stack.data)


def test_a_preview_measures_the_whole_stack_as_the_run_does(wide) -> None:
    from zenhance.pipeline import preview_steps

    stack = Stack(wide, "ZYX", VoxelSize(*VOXEL))
    request = EnhanceRequest(device="cpu", settings={"stop": "fixed", "iterations": 1})
    run = enhance(stack, request)
    seen = drain(preview_steps(stack, request, 20))
    assert seen.provenance.notes["profiles"] == run.provenance.notes["profiles"]
    halo = slice(16, 48)
    ours = np.asarray(run.stack.data)[20, halo, halo]
    assert np.allclose(np.asarray(seen.stack.data)[0, halo, halo], ours, rtol=0.05)


def test_even_light_makes_shallow_and_deep_structures_alike() -> None:
    profile = make_profile((0.5,), (0.2,), 20.0)
    lit, measured = make_scene(profile, 6000.0)
    depth = np.clip(np.arange(SHAPE[0]) - 3.0, 0.0, None)
    light = (lit - 100.0) * np.exp(depth / 20.0)[:, None, None]
    fields = {"method": "identity", "profile": as_json(profile)}
    plain = run(measured, **fields) - 100.0
    even = run(measured, **fields, even_light=True) - 100.0
    shallow, deep = slice(5, 15), slice(33, 43)
    assert plain[deep].mean() < 0.4 * plain[shallow].mean()
    # Rods are not as dense everywhere: what counts is the grey value of one.
    per_rod = [even[part].mean() / light[part].mean() for part in (shallow, deep)]
    assert per_rod[1] == pytest.approx(per_rod[0], rel=0.15)


def test_even_light_says_what_it_costs(scene) -> None:
    _, measured = scene
    request = EnhanceRequest(
        voxel_size_um=VOXEL,
        device="cpu",
        method="identity",
        even_light=True,
        profile=as_json(make_profile(length=5.0)),
    )
    result = enhance(measured, request)
    assert any("noise is amplified up to 20 times" in w for w in result.provenance.warnings)
    assert "no longer proportional to photons" in result.provenance.notes["even_light"]


def test_the_judge_blurs_by_depth_and_takes_the_even_light_back(scene) -> None:
    _, measured = scene
    stack = Stack(measured, "ZYX", VoxelSize(*VOXEL))
    fields = {"device": "cpu", "profile": as_json(make_profile())}
    found = []
    for even in (False, True):
        request = EnhanceRequest(**fields, even_light=even)
        result = enhance(stack, request).stack
        found.append(assess_result(stack, result, request).reblur.discrepancy)
        if not even:
            z, y, x = make_profile().sigma_at_um(22.0)
            constant = EnhanceRequest(device="cpu", psf=f"sigma_um={z},{y},{x}")
            other = assess_result(stack, result, constant).reblur.discrepancy
    # The light that the blur mixes between depths is evened after it: alike, not equal.
    assert found[1] == pytest.approx(found[0], abs=0.02)
    assert found[0] < 1.2 < other


def test_denoised_is_blurred_by_depth(scene) -> None:
    _, measured = scene
    fields = {"profile": as_json(make_profile()), "settings": {"stop": "fixed", "iterations": 5}}
    seen = run(measured, output="denoised", **fields)
    sharp = run(measured, **fields)
    expected = np.zeros(SHAPE)
    volume = profiled_volume(Stack(measured, "ZYX", VoxelSize(*VOXEL)), 0, 0, make_profile())
    depth = volume.depth_um(volume.whole)[:, 0, 0]
    for plane in range(SHAPE[0]):
        alone = np.zeros(SHAPE)
        alone[plane] = sharp[plane]
        sigma = [
            s / v for s, v in zip(make_profile().sigma_at_um(depth[plane]), VOXEL, strict=True)
        ]
        expected += ndimage.gaussian_filter(alone, sigma, mode="reflect")
    assert np.abs(seen - expected).std() < 0.15 * expected.std()


def test_a_profile_needs_planes_a_file_and_one_grid(tmp_path) -> None:
    with pytest.raises(StackError, match="needs a stack"):
        enhance(np.ones((16, 16), np.uint16), voxel_size_um=(0.2, 0.2), profile="measure")
    with pytest.raises(MethodError, match="cannot be read"):
        run(np.ones((8, 16, 16), np.uint16), profile=str(tmp_path / "none.json"))
    with pytest.raises(MethodError, match="measure it again"):
        run(np.ones((8, 16, 16), np.uint16), profile='{"gain": 1}')
    with pytest.raises(RecipeError, match="request field"):
        EnhanceRequest(profile="")
