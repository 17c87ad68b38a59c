"""Results are cast without wrapping round, and gathered only where there is room for them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zenhance.errors import FailureKind, WriteError, classify
from zenhance.measurement.reader import VolumeReader
from zenhance.pipeline import enhance
from zenhance.pipeline.output import Output
from zenhance.stack import Stack

REGION = (slice(0, 1), slice(0, 2), slice(0, 3))


def written(values: list[float], dtype: Any) -> Output:
    block = np.array(values, np.float32).reshape(1, 2, 3)
    output = Output(np.zeros((1, 2, 3), dtype), (1, 1, 1))
    output.write(
        VolumeReader(Stack.from_array(np.ones((1, 2, 3), np.float32), "ZYX")), REGION, block
    )
    return output


@pytest.mark.parametrize(
    ("dtype", "lowest", "highest"),
    [
        ("uint8", 0, 255),
        ("int16", -32768, 32767),
        ("uint32", 0, 2**32 - 1),
        ("int32", -(2**31), 2**31 - 1),
        # the largest float64 below 2^63 and 2^64: 53 bits of them are ones
        ("int64", -(2**63), 2**63 - 2**10),
        ("uint64", 0, 2**64 - 2**11),
        ("float16", -65504, 65504),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_values_beyond_a_type_are_clipped_and_counted(
    dtype: str, lowest: int, highest: int, order: str
) -> None:
    output = written(
        [-1e20, 1e20, 2.4, 7.0, 70000 if dtype == "float16" else 1e25, 0],
        np.dtype(dtype).newbyteorder(order),
    )
    found = [value.item() for value in output.array.ravel()]
    assert found[:2] == [lowest, highest]
    assert found[2] == (pytest.approx(2.4, rel=1e-3) if dtype == "float16" else 2)
    assert found[3:] == [7, highest, 0]
    assert output.clipped == 3
    assert output.warnings() == [
        f"3 voxels were clipped to {output.array.dtype}; choose dtype float32 to keep them"
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_wide_floats_hold_every_value(dtype: str) -> None:
    values = [-3e38, 3e38, 2.5, 0, 1e-30, 7]
    output = written(values, dtype)
    assert np.array_equal(output.array.ravel(), np.array(values, np.float32).astype(dtype))
    assert output.clipped == 0


def test_a_bright_result_of_a_half_float_stack_stays_finite_and_its_holes_stay_holes() -> None:
    data = np.full((4, 9, 9), 60000.0, np.float16)
    data[2, 4, 4] = np.nan
    result = enhance(data, axes="ZYX", method="identity", dtype="input").stack.data
    assert result.dtype == np.float16
    assert np.array_equal(result, data, equal_nan=True)


def file_backed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zenhance.pipeline.output.free_bytes", lambda _device: 1000)


def test_a_result_that_the_temporary_folder_has_no_room_for_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file_backed(monkeypatch)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = np.ones((10, 500, 500), np.uint16)
    usage = shutil.disk_usage(tmp_path)
    for free, fits in ((10_999_999, False), (11_000_001, True)):
        monkeypatch.setattr(
            shutil, "disk_usage", lambda _folder, free=free: usage._replace(free=free)
        )
        if fits:
            assert isinstance(enhance(data, method="identity").stack.data, np.memmap)
            continue
        with pytest.raises(
            WriteError, match=r"needs 11 MB in .* where 11 MB are free; .* set TMPDIR"
        ) as raised:
            enhance(data, method="identity")
        assert classify(raised.value) is FailureKind.DISK_FULL
        assert len(str(raised.value)) <= 240
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    not hasattr(os, "posix_fallocate"), reason="space cannot be reserved on this system"
)
@pytest.mark.parametrize(
    ("code", "refused"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EOPNOTSUPP, False), (errno.EINVAL, False)],
)
def test_space_is_reserved_before_the_run_where_the_system_can(
    monkeypatch: pytest.MonkeyPatch, code: int, refused: bool
) -> None:
    file_backed(monkeypatch)
    asked = []

    def fails(_descriptor: int, start: int, length: int) -> None:
        asked.append((start, length))
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", fails)
    data = np.ones((3, 20, 20), np.uint8)
    if refused:
        with pytest.raises(WriteError, match="set TMPDIR"):
            enhance(data, axes="ZYX", method="identity")
    else:
        assert np.array_equal(enhance(data, axes="ZYX", method="identity").stack.data, data)
    assert asked == [(0, 4 * 3 * 20 * 20)]


@pytest.mark.skipif(
    not hasattr(os, "posix_fallocate"), reason="space cannot be reserved on this system"
)
def test_a_reserved_file_is_not_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    file_backed(monkeypatch)
    blocks = []
    real = os.posix_fallocate

    def reserve(descriptor: int, start: int, length: int) -> None:
        real(descriptor, start, length)
        blocks.append(os.fstat(descriptor).st_blocks * 512)

    monkeypatch.setattr(os, "posix_fallocate", reserve)
    enhance(np.ones((10, 100, 100), np.uint8), method="identity")
    assert blocks[0] >= 4 * 100_000
