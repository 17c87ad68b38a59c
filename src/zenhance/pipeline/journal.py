"""A run that survives being killed: its finished tiles, and a journal of them, beside the output.

::

    .NAME.zenhance-unfinished/job.json            input, request, versions, device, size of a tile
                              learnt.json         the model learnt from this very stack first
                              OUTPUT/             a zarr array; chunks of a tile belong to it alone
                              tiles/T-C-N.json    a finished tile: sha256 of its voxels, its counts

A tile counts as finished when its voxels are those of the journal. The same run continues with the
tiles that are left; another run is refused. After success, the folder is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from zenhance._version import __version__
from zenhance.errors import OutputExistsError, RunCancelled, WriteError
from zenhance.io.limits import read_bounded
from zenhance.io.lock import hidden_name, locked
from zenhance.io.partial import remove_folder
from zenhance.io.write_zarr import create_array
from zenhance.measurement.reader import VolumeReader
from zenhance.pipeline.output import Layout, Output, allocate
from zenhance.pipeline.plan import RunPlan
from zenhance.pipeline.request import EnhanceRequest
from zenhance.provenance import libraries
from zenhance.types import Region, Triple

__all__ = ["Journal", "identity", "journal_beside"]

MAX_RECORD_BYTES = 2**24
MAX_CHUNK_PX = (16, 1024, 1024)
"""Chunks of unfinished outputs (z, y, x): a few planes, as the finished image is written."""
_JOB, _TILES, _LEARNT = "job.json", "tiles", "learnt.json"
_WORDS = {"version": "version of zenhance", "weights": "model", "psf": "point spread function"}


def identity(plan: RunPlan, request: EnhanceRequest, input_sha256: str) -> dict[str, Any]:
    """Return what decides the voxels of a run; two runs that agree in it can share tiles."""
    stack = plan.stack
    files = [Path(text.partition(":")[2].strip() or text) for text in _files_named(request)]
    said = {
        "version": __version__,
        "libraries": libraries(),
        "device": f"{plan.device.name} ({plan.device.title})",
        "input": [input_sha256, stack.axes, stack.voxel_size.zyx_um],
        "request": request.model_dump(mode="json", exclude={"device", "tile_px"}),
        "psf": None if plan.psf is None else plan.psf.describe(),
        "files": [hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()],
    }
    known: dict[str, Any] = json.loads(json.dumps(said))
    return known


def _files_named(request: EnhanceRequest) -> list[str]:
    return [text for text in (request.psf, request.profile, request.weights) if text]


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return in words what two runs differ in."""
    found = [key for key in after if before.get(key) != after[key]]
    if "request" in found and isinstance(before.get("request"), Mapping):
        old, new = before["request"], after["request"]
        fields = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        found[found.index("request") : found.index("request") + 1] = fields
    return list(dict.fromkeys(_WORDS.get(key, key) for key in found))


def _even_part(length: int, limit: int, whole: bool) -> int:
    """Return a length of chunks that divides a tile's, or where one tile has all, any length."""
    if whole:
        return min(length, limit)
    part = next(n for n in range(min(length, limit), 0, -1) if length % n == 0)
    return part if 8 * part >= min(length, limit) else length


def _read(path: Path) -> dict[str, Any] | None:
    """Return a record of the journal, or None where there is none as it was written."""
    try:
        digest, _, text = read_bounded(path, MAX_RECORD_BYTES).partition(b"\n")
        sound = digest.decode() == hashlib.sha256(text).hexdigest()
        return cast("dict[str, Any]", json.loads(text)) if sound else None
    except (OSError, ValueError, RecursionError):
        return None


@dataclass
class Journal:
    """The journal of one run, in a folder that may not exist yet.

    Parameters
    ----------
    folder : Path
        On a disk that all processes of the run share.
    """

    folder: Path
    _job: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def job(self) -> Mapping[str, Any]:
        """What the run is (:func:`identity`), with its tile size ``core_px``."""
        return self._job

    @property
    def core_px(self) -> Triple:
        """Size of a tile, without its halo; a run keeps it to its end."""
        z, y, x = self._job["core_px"]
        return (z, y, x)

    def begin(self, job: Mapping[str, Any], core_px: Triple) -> None:
        """Begin a run, or continue it.

        Raises
        ------
        OutputExistsError
            The folder holds another run.
        """
        known = _read(self.folder / _JOB)
        if known is not None:
            self._refuse(_differences(known, job))
        else:
            known = {**job, "core_px": list(core_px)}
            self.folder.mkdir(exist_ok=True)
            self._write(_JOB, known)
        (self.folder / _TILES).mkdir(exist_ok=True)
        self._job = known

    def resume(self) -> None:
        """Take part in a run that another process began.

        Raises
        ------
        WriteError
            There is no such run where this process looks for it.
        """
        known = _read(self.folder / _JOB)
        if known is None:
            raise WriteError(
                f'the journal of the run is not in "{self.folder}" on {platform.node()}; all '
                "workers must see input and output under the same path"
            )
        self._job = known

    def check_weights(self, sha256: str) -> None:
        """Refuse a model other than that of the tiles that are finished.

        Raises
        ------
        OutputExistsError
            The weights have changed since the run began.
        """
        known = self._job.get("weights")
        if known is None:
            self._job["weights"] = sha256
            self._write(_JOB, self._job)
        elif known != sha256:
            self._refuse([_WORDS["weights"]])

    def _refuse(self, different: Sequence[str]) -> None:
        if different:
            name = self.folder.name.removeprefix(".").removesuffix(_SUFFIX)
            raise OutputExistsError(
                f'an unfinished run to "{name}" had another {" and ".join(different)}; give what '
                "it had to continue it, or start over with --restart"
            )

    def outputs(self, planned: Mapping[str, Layout]) -> dict[str, Output]:
        """Return the outputs, whose arrays lie in the folder."""
        return allocate(planned, self._array)

    def _array(self, name: str, layout: Layout) -> Any:
        import zarr

        place = self.folder / name
        if (place / "zarr.json").is_file():
            return zarr.open_array(store=str(place), mode="r+")
        sizes = dict(zip(layout.axes, layout.shape, strict=True))
        chunk = {
            axis: _even_part(core * scale, limit, core * scale >= sizes.get(axis, 1))
            for axis, core, scale, limit in zip(
                "ZYX", self.core_px, layout.scale, MAX_CHUNK_PX, strict=True
            )
        }
        chunks = tuple(min(n, chunk.get(a, 1)) for a, n in sizes.items())
        return create_array(place, layout.axes, layout.shape, layout.dtype, chunks)

    def learnt(self) -> dict[str, Any] | None:
        """Return what was learnt from the stack before the run was interrupted."""
        return _read(self.folder / _LEARNT)

    def keep_learnt(self, record: Mapping[str, Any]) -> None:
        """Keep what was learnt from the stack."""
        self._write(_LEARNT, record)

    def finished(
        self, outputs: Mapping[str, Output], reader: VolumeReader, number: int, region: Region
    ) -> dict[str, Any] | None:
        """Return the record of a tile, or None where its voxels are not those of the journal.

        Parameters
        ----------
        outputs : mapping of str to Output
            As :meth:`outputs` gives them.
        reader : VolumeReader
            Of the tile's volume.
        number : int
            The tile's, in the plan of its volume.
        region : tuple of slice
            The tile's core, in voxels of the output.
        """
        record = _read(self.folder / _tile_name(reader, number))
        if record is None:
            return None
        try:
            found = {name: output.digest(reader, region) for name, output in outputs.items()}
        except (OSError, ValueError, RuntimeError):
            # A chunk that was cut or zeroed does not decode: the tile is computed again.
            return None
        return record if record.get("sha256") == found else None

    def finish(
        self,
        outputs: Mapping[str, Output],
        reader: VolumeReader,
        number: int,
        region: Region,
        record: dict[str, Any],
    ) -> None:
        """Add a tile, whose voxels are written, to the journal."""
        record["sha256"] = {name: o.digest(reader, region) for name, o in outputs.items()}
        self._write(_tile_name(reader, number), record)

    def count(self) -> int:
        """Return how many tiles the journal has."""
        return sum(1 for _ in (self.folder / _TILES).glob("*.json"))

    def _write(self, name: str, record: Mapping[str, Any]) -> None:
        path = self.folder / name
        # Several workers may write the same record.
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
        text = json.dumps(record).encode()
        partial.write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
        partial.replace(path)


def _tile_name(reader: VolumeReader, number: int) -> str:
    return f"{_TILES}/{reader.t}-{reader.c}-{number}.json"


_SUFFIX = ".zenhance-unfinished"


@contextlib.contextmanager
def journal_beside(target: Path, *, restart: bool = False) -> Iterator[Journal]:
    """Hold the journal of a run while it computes and writes its result.

    Parameters
    ----------
    target : Path
        Where the result goes; it is written inside the context.
    restart : bool
        Forget what an interrupted run has left.

    Raises
    ------
    BusyError
        Another process runs to the same output.
    OutputExistsError
        The folder's name belongs to something else.
    RunCancelled
        As the run raised it; the text says how many tiles are kept.
    """
    journal = Journal(target.with_name(f"{hidden_name(target)}{_SUFFIX}"))
    folder = journal.folder
    with locked(folder):
        ours = folder.is_dir() and not folder.is_symlink()
        if folder.is_symlink() or (folder.exists() and not ours):
            raise _not_ours(folder)
        # A run that was killed at once has only begun to write what it is.
        begun = ours and _read(folder / _JOB) is not None
        if ours and not begun and any(not p.name.startswith(_JOB) for p in folder.iterdir()):
            raise _not_ours(folder)
        if restart and ours:
            remove_folder(folder, _JOB, strict=True)
        try:
            yield journal
        except BaseException as error:
            count = journal.count()
            if not count and journal.job:
                remove_folder(folder, _JOB)
            if isinstance(error, RunCancelled) and count:
                kept = f"{count} tile is kept" if count == 1 else f"{count} tiles are kept"
                raise RunCancelled(
                    f"the run was cancelled; {kept}, and the same command continues it"
                ) from error
            raise
        remove_folder(folder, _JOB)


def _not_ours(folder: Path) -> OutputExistsError:
    return OutputExistsError(
        f'"{folder.name}", which would hold the unfinished run, is not of zenhance and was not '
        "changed; rename or remove it, or choose another output name"
    )
