"""Requests in files: YAML as written by hand or by the program, or the record inside a result."""

from __future__ import annotations

from pathlib import Path

from zenhance.errors import ReadError, WriteError
from zenhance.io import inspect_image
from zenhance.io.commit import commit
from zenhance.io.names import is_image_folder
from zenhance.pipeline.request import EnhanceRequest, replayed
from zenhance.provenance import Provenance
from zenhance.yaml_text import read_text

__all__ = ["read_request", "write_request"]

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
