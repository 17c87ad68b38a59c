"""Failures are recognised whichever library raised them; each has an exit code and a sentence."""

from __future__ import annotations

import errno
import importlib
import pickle
import pkgutil

import numpy as np
import pytest
import torch

import zenhance
from zenhance.errors import (
    BusyError,
    CheckpointError,
    FailureKind,
    MemoryBudgetError,
    MethodError,
    OutputExistsError,
    ReadError,
    RecipeError,
    RunCancelled,
    StackError,
    WriteError,
    ZenhanceError,
    classify,
    exit_code,
    sentence,
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            FailureKind.OOM_DEVICE,
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), FailureKind.OOM_DEVICE),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
            FailureKind.OOM_DEVICE,
        ),
        (RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), FailureKind.OOM_DEVICE),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), FailureKind.OOM_DEVICE),
        (
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate "
                "8 bytes"
            ),
            FailureKind.OOM_HOST,
        ),
        (MemoryError("Unable to allocate 1.82 TiB"), FailureKind.OOM_HOST),
        (RuntimeError("can't start new thread"), FailureKind.OOM_HOST),
        (
            ImportError("libtorch.so: failed to map segment from shared object"),
            FailureKind.OOM_HOST,
        ),
        (
            ImportError("libmkl.so: cannot allocate memory in static TLS block"),
            FailureKind.OOM_HOST,
        ),
        (MemoryBudgetError("too small"), FailureKind.OOM_HOST),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), FailureKind.OOM_HOST),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), FailureKind.DEVICE_LOST),
        (
            RuntimeError("CUDA error: an illegal memory access was encountered"),
            FailureKind.DEVICE_LOST,
        ),
        (OSError(errno.ENOSPC, "No space left on device"), FailureKind.DISK_FULL),
        (OSError(errno.EFBIG, "File too large"), FailureKind.DISK_FULL),
        (OSError("16777216 requested and 2621312 written"), FailureKind.DISK_FULL),
        (RuntimeError("unexpected pos 640 vs 534"), FailureKind.DISK_FULL),
        (PermissionError(errno.EACCES, "Permission denied"), FailureKind.PERMISSION),
        (OSError(errno.EROFS, "Read-only file system"), FailureKind.PERMISSION),
        (KeyboardInterrupt(), FailureKind.CANCELLED),
        (RunCancelled("stopped"), FailureKind.CANCELLED),
        (ValueError("what?"), FailureKind.BUG),
        (RuntimeError("size mismatch"), FailureKind.BUG),
    ],
)
def test_failures_are_recognised_in_every_disguise(error: BaseException, kind: FailureKind) -> None:
    assert classify(error) is kind


def test_a_paging_file_that_is_too_small_on_windows_counts_as_out_of_memory() -> None:
    error = OSError("The paging file is too small for this operation to complete")
    assert classify(error) is FailureKind.BUG
    error.winerror = 1455  # type: ignore[attr-defined,unused-ignore]
    assert classify(error) is FailureKind.OOM_HOST


def test_a_real_allocation_failure_of_numpy_and_torch_counts_as_out_of_memory() -> None:
    with pytest.raises(MemoryError) as from_numpy:
        np.empty((2**60,), np.uint8)
    assert classify(from_numpy.value) is FailureKind.OOM_HOST
    with pytest.raises(RuntimeError) as from_torch:
        torch.empty(2**58, dtype=torch.float32)
    assert classify(from_torch.value) is FailureKind.OOM_HOST


@pytest.mark.parametrize(
    ("error", "code", "builtin"),
    [
        (StackError("x"), 2, ValueError),
        (MethodError("x"), 2, ValueError),
        (RecipeError("x"), 2, ValueError),
        (ReadError("a.tif", "it is empty"), 3, OSError),
        (CheckpointError("x"), 4, ValueError),
        (MemoryBudgetError("x"), 5, MemoryError),
        (WriteError("x"), 6, OSError),
        (BusyError("x"), 8, OSError),
        (OutputExistsError("x"), 9, FileExistsError),
        (RunCancelled("x"), 130, Exception),
        (ZeroDivisionError("x"), 1, Exception),
    ],
)
def test_each_error_has_its_exit_code_and_is_what_a_caller_expects(
    error: Exception, code: int, builtin: type[Exception]
) -> None:
    assert exit_code(error) == code
    assert isinstance(error, builtin)


def test_a_read_error_names_the_file() -> None:
    assert (
        sentence(ReadError("/data/a b.tif", "it is empty"))
        == 'cannot read "/data/a b.tif": it is empty'
    )


def test_a_foreign_error_is_put_into_words_that_say_what_to_do() -> None:
    assert "choose device 'cpu'" in sentence(torch.OutOfMemoryError("CUDA out of memory"))
    assert "--debug" in sentence(KeyError("z"))
    assert "\n" not in sentence(ValueError("two\nlines"))


def all_error_classes() -> list[type[ZenhanceError]]:
    """Every error class of the package, those outside zenhance.errors too."""
    for found in pkgutil.walk_packages(zenhance.__path__, "zenhance."):
        if not found.name.startswith(("zenhance.plugin", "zenhance.cli")):
            importlib.import_module(found.name)
    classes: list[type[ZenhanceError]] = [ZenhanceError]
    for known in classes:
        classes += [cls for cls in known.__subclasses__() if cls not in classes]
    return [cls for cls in classes if cls.__module__.startswith("zenhance")]


def made(cls: type[ZenhanceError]) -> ZenhanceError:
    """An error of a class, with whatever its constructor takes."""
    for arguments in (("a sentence",), ("a.tif", "it is damaged"), ("a sentence", ())):
        try:
            return cls(*arguments)
        except TypeError:
            continue
    raise AssertionError(f"no way to make a {cls.__name__}")


def test_every_error_comes_back_whole_from_a_worker_process() -> None:
    classes = all_error_classes()
    assert len(classes) >= 12
    for cls in classes:
        error = made(cls)
        error.add_note("in tile 3")
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is cls
        assert (str(again), again.args) == (str(error), error.args)
        assert vars(again) == vars(error)
        assert (exit_code(again), sentence(again)) == (exit_code(error), sentence(error))


def test_what_an_error_was_told_besides_its_sentence_comes_back_too() -> None:
    error = WriteError("the disk is full", FailureKind.DISK_FULL)
    again = pickle.loads(pickle.dumps(error))
    assert again.kind is FailureKind.DISK_FULL
    read = pickle.loads(pickle.dumps(ReadError("a.tif", "it is damaged")))
    assert (read.path.name, read.reason) == ("a.tif", "it is damaged")


def test_a_path_of_any_length_is_shown_within_two_hundred_characters() -> None:
    error = ReadError("a" * 5000 + ".tif", "it is empty")
    assert str(error) == f'cannot read "{"a" * 100}...{"a" * 96}.tif": it is empty'
    assert error.path.name == "a" * 5000 + ".tif"
