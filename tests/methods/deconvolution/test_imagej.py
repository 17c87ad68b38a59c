"""The ImageJ forms against a plain transcription of the published steps and their figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zenhance.methods.deconvolution.imagej import (
    Id3dSettings,
    iterative_deconvolve,
    richardson_lucy_circular,
)


def _finish(steps):
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def _kernel(sigma, size=None):
    size = size or 2 * int(4 * sigma + 0.5) + 1
    index = np.arange(size) - size // 2
    kernel = np.exp(-(index[:, None] ** 2 + index[None, :] ** 2) / (2 * sigma**2))
    return (kernel / kernel.sum()).astype(np.float32)


def _image(shape=(48, 40), sigma=2.0, peak=200.0, noise=True, background=10.0):
    rng = np.random.default_rng(0)
    truth = np.zeros(shape)
    for _ in range(14):
        i, j = rng.integers(4, shape[0] - 6), rng.integers(4, shape[1] - 8)
        truth[i : i + 2, j : j + 6] += peak
    kernel = _kernel(sigma)
    radius = kernel.shape[0] // 2
    padded = np.pad(truth, radius, mode="symmetric")
    mean = background + sum(
        kernel[a, b] * padded[a : a + shape[0], b : b + shape[1]]
        for a in range(kernel.shape[0])
        for b in range(kernel.shape[1])
    )
    return (rng.poisson(mean) if noise else mean).astype(np.float32), kernel


def _transcription(
    image, kernel, most, gamma=0.0, low_pass=1.0, terminate=0.01, anti_ringing=True, padded=None
):
    """Iterative Deconvolve 3D in double precision, with whole complex spectra and plain loops."""
    height, width = image.shape

    def grown(n):
        size = 4
        while n > 1 and size < 1.5 * n:
            size *= 2
        return size

    h, w = padded or (
        max(grown(height), grown(kernel.shape[0])),
        max(grown(width), grown(kernel.shape[1])),
    )
    top, left = (h - height + 1) // 2, (w - width + 1) // 2

    def mirrored(i, n):
        i %= 2 * n
        return i if i < n else 2 * n - 1 - i

    y = np.array(
        [
            [image[mirrored(i - top, height), mirrored(j - left, width)] for j in range(w)]
            for i in range(h)
        ],
        dtype=float,
    )
    psf = np.zeros((h, w))
    a_top, a_left = (h - kernel.shape[0] + 1) // 2, (w - kernel.shape[1] + 1) // 2
    psf[a_top : a_top + kernel.shape[0], a_left : a_left + kernel.shape[1]] = kernel
    spectrum = np.fft.fft2(np.roll(psf, (-(h // 2), -(w // 2)), axis=(0, 1)))
    if anti_ringing:
        smooth = np.fft.ifft2(np.fft.fft2(y) * spectrum).real / kernel.sum(dtype=float)

        def share(i, n, before):
            return -i / before if i < 0 else (i - n) / before if i > n - 1 else 0.0

        for i in range(h):
            for j in range(w):
                a = max(share(i - top, height, top), share(j - left, width, left))
                y[i, j] = (1 - a) * y[i, j] + a * smooth[i, j]
    if gamma > 1e-4:
        power = np.abs(spectrum) ** 2
        divisor = 2 * (power + gamma * power.max())
        y = np.fft.ifft2(np.fft.fft2(y) * np.conj(spectrum) / divisor).real
        spectrum = power / divisor
    a_sum = np.abs(np.fft.ifft2(spectrum).real).sum()
    fi = np.array([min(i, h - i) for i in range(h)]) / h * low_pass
    fj = np.array([min(j, w - j) for j in range(w)]) / w * low_pass
    g = np.exp(-(fi[:, None] ** 2)) * np.exp(-(fj[None, :] ** 2))
    x, old, curve = y.copy(), np.inf, []
    for _ in range(most):
        fx = np.fft.fft2(x) * g
        delta = y - np.fft.ifft2(fx * spectrum).real / a_sum
        x = np.fft.ifft2(fx).real + delta
        moved = np.abs(delta[x >= 0]).sum()
        x[x < 0] = 0
        percent = 100 * moved / x[top : top + height, left : left + width].sum()
        curve.append(percent)
        if old - percent < terminate:
            break
        if old < percent:
            break
        old = percent
    x = np.fft.ifft2(np.fft.fft2(x) * g).real / a_sum
    return x[top : top + height, left : left + width], curve


@pytest.mark.parametrize("shape", [(48, 40), (33, 64), (21, 22), (5, 3)])
@pytest.mark.parametrize("gamma", [0.0, 0.05])
def test_iterative_deconvolve_follows_the_published_steps(shape, gamma):
    image, kernel = (
        _image(shape)
        if min(shape) > 20
        else (np.random.default_rng(1).uniform(5, 50, shape).astype(np.float32), _kernel(1.0))
    )
    expected, curve = _transcription(image, kernel, 12, gamma=gamma, terminate=0.0)
    result = _finish(
        iterative_deconvolve(
            torch.from_numpy(image), kernel, Id3dSettings(12, gamma=gamma, terminate_percent=0.0)
        )
    )
    assert result.iterations == len(curve)
    assert result.percent == pytest.approx(curve, rel=1e-3)
    assert np.abs(result.plane.numpy() - expected).max() < 2e-4 * np.ptp(expected)


def test_switches_of_low_pass_and_anti_ringing_follow_the_published_steps():
    image, kernel = _image()
    expected, _ = _transcription(image, kernel, 8, low_pass=2.5, terminate=0.0, anti_ringing=False)
    settings = Id3dSettings(8, low_pass_px=2.5, terminate_percent=0.0, anti_ringing=False)
    result = _finish(iterative_deconvolve(torch.from_numpy(image), kernel, settings))
    assert np.abs(result.plane.numpy() - expected).max() < 2e-4 * np.ptp(expected)


def test_wpl_pads_to_image_plus_kernel_as_a_power_of_two_unless_that_is_far_more():
    image, kernel = _image((48, 40))  # 17 px kernel: 65 -> 65 (128 is far more), 57 -> 64
    expected, curve = _transcription(image, kernel, 5, padded=(65, 64))
    result = _finish(
        iterative_deconvolve(torch.from_numpy(image), kernel, Id3dSettings(5, padding="wpl"))
    )
    assert result.iterations == len(curve) <= 5
    inside = (slice(10, -10), slice(10, -10))
    assert np.abs(result.plane.numpy() - expected)[inside].max() < 1e-3 * np.ptp(expected)


def test_it_stops_by_itself_after_some_thirty_iterations_with_the_plugins_defaults():
    image, kernel = _image((96, 96), sigma=2.0, peak=300.0)
    _, curve = _transcription(image, kernel, 100)
    result = _finish(iterative_deconvolve(torch.from_numpy(image), kernel))
    assert abs(result.iterations - len(curve)) <= 1
    assert 15 <= result.iterations <= 45
    assert result.percent[-2] - result.percent[-1] < 0.01


def test_the_mean_of_a_noiseless_image_is_kept():
    image, kernel = _image((64, 64), noise=False)
    result = _finish(iterative_deconvolve(torch.from_numpy(image), kernel))
    assert float(result.plane.mean()) == pytest.approx(float(image.mean()), rel=5e-3)


def test_the_low_pass_lets_0_7788_of_the_nyquist_frequency_through():
    stripes = np.tile(np.array([1.0, -1.0], np.float32), (4, 512)) + 10
    result = _finish(
        iterative_deconvolve(
            torch.from_numpy(stripes),
            np.ones((1, 1), np.float32),
            Id3dSettings(0, anti_ringing=False),
        )
    )
    # Mirroring repeats the edge pixel and so breaks the stripes there: look far from it.
    inside = result.plane[:, 500:524]
    assert float((inside[:, ::2] - inside[:, 1::2]).abs().mean()) / 2 == pytest.approx(
        0.7788, abs=5e-4
    )


def test_a_constant_plane_stays_constant():
    plane = torch.full((31, 44), 100.0)
    for result in (
        _finish(iterative_deconvolve(plane, _kernel(2.0))),
        _finish(richardson_lucy_circular(plane, _kernel(2.0))),
    ):
        assert float((result.plane - 100.0).abs().max()) < 1e-2


def test_a_black_plane_stays_black():
    plane = torch.zeros((16, 16))
    assert float(_finish(iterative_deconvolve(plane, _kernel(1.0))).plane.abs().max()) == 0.0
    assert float(_finish(richardson_lucy_circular(plane, _kernel(1.0))).plane.abs().max()) == 0.0


def test_a_kernel_that_is_not_normalised_is_normalised():
    image, kernel = _image()
    once = _finish(iterative_deconvolve(torch.from_numpy(image), kernel))
    scaled = _finish(iterative_deconvolve(torch.from_numpy(image), kernel * 255))
    assert torch.allclose(once.plane, scaled.plane, rtol=1e-3, atol=1e-2)


def test_it_deblurs():
    image, kernel = _image((64, 64), noise=False)
    result = _finish(iterative_deconvolve(torch.from_numpy(image), kernel))
    assert float(result.plane.max()) > 1.3 * image.max()


@pytest.mark.parametrize("shape", [(40, 36), (9, 33), (7, 5)])
def test_circular_richardson_lucy_is_ten_plain_wrapped_iterations_from_the_image(shape):
    rng = np.random.default_rng(2)
    image = rng.uniform(1, 100, shape).astype(np.float32)
    kernel = _kernel(1.5)
    psf = np.zeros(shape)
    for a in range(kernel.shape[0]):
        for b in range(kernel.shape[1]):
            psf[(a - kernel.shape[0] // 2) % shape[0], (b - kernel.shape[1] // 2) % shape[1]] += (
                kernel[a, b]
            )
    transfer = np.fft.fft2(psf)
    x = image.astype(float)
    for _ in range(10):
        model = np.fft.ifft2(np.fft.fft2(x) * transfer).real
        x = x * np.fft.ifft2(np.fft.fft2(image / model) * np.conj(transfer)).real
    result = _finish(richardson_lucy_circular(torch.from_numpy(image), kernel))
    assert result.iterations == 10
    assert np.abs(result.plane.numpy() - x).max() < 1e-3 * np.ptp(x)


def test_each_iteration_yields_the_fraction_done():
    image, kernel = _image()
    assert list(richardson_lucy_circular(torch.from_numpy(image), kernel, 4)) == [
        0.25,
        0.5,
        0.75,
        1.0,
    ]
    assert (
        list(
            iterative_deconvolve(
                torch.from_numpy(image), kernel, Id3dSettings(4, terminate_percent=0.0)
            )
        )[-1]
        == 1.0
    )
