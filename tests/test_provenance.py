"""The account of a run survives a journey as text, and the pixel hash sees every change."""

from __future__ import annotations

import json

import numpy as np
import pytest

from zenhance.errors import StackError
from zenhance.provenance import METADATA_KEY, ArrayHash, Provenance, hash_array


def test_a_record_reads_back_as_it_was_written() -> None:
    record = Provenance(
        version="1",
        request={"method": "identity"},
        curves={"chi2": [2.0, 1.1]},
        seed=3,
        warnings=("dim",),
    )
    assert Provenance.from_json(record.to_json()) == record
    for kept in (record, record.to_json(), json.loads(record.to_json())):
        assert Provenance.find({METADATA_KEY: kept}) == record
    assert Provenance.find({}) is None


def test_a_damaged_record_says_that_the_image_is_not_affected() -> None:
    with pytest.raises(StackError, match="the image itself is not affected"):
        Provenance.from_json('{"version": 1')


def test_the_hash_does_not_depend_on_storage_but_on_every_pixel() -> None:
    array = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    digest = ArrayHash(np.uint16, (2, 3, 4))
    for plane in array.astype(">u2"):
        digest.add(plane)
    assert digest.hexdigest() == hash_array(array) == hash_array(np.asfortranarray(array))
    changed = array.copy()
    changed[1, 2, 3] ^= 1
    assert hash_array(changed) != hash_array(array)
    assert hash_array(array.reshape(3, 2, 4)) != hash_array(array)
    assert hash_array(array.astype(np.int16)) != hash_array(array)


def test_a_record_of_version_0_1_keeps_what_the_judge_needs() -> None:
    old = {"version": "0.1.0", "request": {}}
    notes = {f"freedom[{n}]": n / 20 for n in range(11)} | {"deblurs[0]": True, "model": "a"}
    record = Provenance.find({METADATA_KEY: {**old, "notes": notes}})
    assert record is not None
    assert record.freedom == tuple(n / 20 for n in range(11))
    assert record.deblurs == (True,)
    assert record.notes == {"model": "a"}
    one = Provenance(**old, notes={"freedom": 0.3, "deblurs": False})
    assert (one.freedom, one.deblurs, one.notes) == ((0.3,), (False,), {})
