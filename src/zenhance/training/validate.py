"""Validation on patches that never change, with figures a microscopist knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor
from torch.nn import Module

from zenhance.contract.learner import Batch, Learner
from zenhance.types import FloatArray

__all__ = ["Board", "Validation", "to_device", "validate"]


@dataclass(frozen=True)
class Validation:
    """What a validation found.

    Parameters
    ----------
    score : float
        Larger is better: see :meth:`zenhance.contract.learner.Learner.score`.
    metrics : mapping
        ``psnr_db``, ``ssim``, ``rmse`` and ``psnr_identity_db`` in units of the scaled range
        (background 0, 99.9 % percentile 1).
    preview : mapping of str to float32 array (Y, X)
        ``measured``, ``predicted`` and, where there is one, ``truth`` of the first patch.
    """

    score: float
    metrics: Mapping[str, float]
    preview: Mapping[str, FloatArray]


def to_device(batch: Batch, device: str) -> Batch:
    """Return the batch on a device."""
    truth = None if batch.truth is None else batch.truth.to(device)
    estimates = None if batch.deconvolved is None else batch.deconvolved.to(device)
    light = None if batch.light is None else batch.light.to(device)
    return replace(
        batch,
        measured=batch.measured.to(device),
        truth=truth,
        depth=batch.depth.to(device),
        deconvolved=estimates,
        light=light,
    )


def _numpy(tensor: Tensor) -> FloatArray:
    return np.asarray(tensor.detach().float().cpu().numpy(), np.float32)


def validate(learner: Learner, network: Module, batches: list[Batch], device: str) -> Validation:
    """Compare the middle plane of each validation patch with the truth, or measure the loss."""
    training = network.training
    network.eval()
    errors, kept_errors, likeness, losses = [], [], [], []
    preview: dict[str, Any] = {}
    with torch.inference_mode():
        for number, batch in enumerate(batches):
            there = to_device(batch, device)
            loss, _ = learner.loss(network, there)
            losses.append(float(loss))
            predicted = _numpy(learner.predict_batch(network, there))[:, 0]
            middle = _numpy(batch.measured[:, batch.measured.shape[1] // 2])
            truth = (
                None if batch.truth is None else _numpy(batch.truth[:, batch.truth.shape[1] // 2])
            )
            if number == 0:
                preview = {"measured": middle[0], "predicted": predicted[0]} | (
                    {} if truth is None else {"truth": truth[0]}
                )
            if truth is None:
                continue
            errors.append(np.square(predicted - truth).mean(axis=(1, 2)))
            likeness += [
                structural_similarity(p, t, data_range=1.0)
                for p, t in zip(predicted, truth, strict=True)
            ]
            if middle.shape == truth.shape:
                kept_errors.append(np.square(middle - truth).mean(axis=(1, 2)))
    network.train(training)
    loss_mean = float(np.mean(losses))
    metrics = {"loss": loss_mean}
    if not errors:
        return Validation(learner.score(network, metrics), metrics, preview)
    mse = float(np.concatenate(errors).mean())
    metrics |= {"psnr_db": _decibel(mse), "rmse": mse**0.5, "ssim": float(np.mean(likeness))}
    if kept_errors:
        metrics["psnr_identity_db"] = _decibel(float(np.concatenate(kept_errors).mean()))
    return Validation(learner.score(network, metrics), metrics, preview)


def _decibel(mean_square: float) -> float:
    return float(-10 * np.log10(max(mean_square, 1e-12)))


class Board:
    """Writes TensorBoard event files of a training, if the tensorboard package is installed.

    Parameters
    ----------
    folder : Path
        For the event files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def write(
        self, step: int, figures: Mapping[str, float], pictures: Mapping[str, FloatArray]
    ) -> None:
        """Write the figures and pictures of one validation."""
        if self._writer is None:
            if find_spec("tensorboard") is None:
                return
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder))
        for name, value in figures.items():
            if name != "step":
                self._writer.add_scalar(name, value, step)
        for name, picture in pictures.items():
            self._writer.add_image(name, np.clip(picture, 0, 1)[np.newaxis], step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
