"""Check the tables of a compound file (Olympus OIB) before a library follows them.

A file with a zeroed tail has chains of sectors that lead into a circle, which a library follows
for ever. Source: Microsoft, [MS-CFB] Compound File Binary File Format.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zenhance.errors import ReadError
from zenhance.io.limits import open_regular

__all__ = ["check_compound"]

MAX_TABLE_SECTORS = 2**20
_END = 0xFFFFFFFE
_ENTRY_BYTES = 128
_STREAM, _ROOT = 2, 5
Table = npt.NDArray[np.uint32]


class _Checker:
    """Reads the tables of one file and follows their chains with a limit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_regular(path) as handle:
            self.data = handle.read(512)
            self.size = handle.seek(0, 2)
            if len(self.data) < 512:
                raise self.damaged("its header is cut short")
            self.sector_bytes = 1 << min(int(struct.unpack_from("<H", self.data, 30)[0]), 20)
            self.count = max(self.size // self.sector_bytes - 1, 0)
            self.handle = handle
            self._read()

    def damaged(self, what: str) -> ReadError:
        return ReadError(
            self.path, f"{what}; it was not copied or written to its end, copy it again"
        )

    def _sector(self, number: int) -> bytes:
        if number >= self.count:
            raise self.damaged(f"sector {number} of {self.count} is beyond its end")
        self.handle.seek((number + 1) * self.sector_bytes)
        return self.handle.read(self.sector_bytes)

    def _table(self, sectors: list[int]) -> Table:
        parts = [np.frombuffer(self._sector(s), "<u4") for s in sectors]
        return np.concatenate(parts) if parts else np.zeros(0, np.uint32)

    def chain(self, table: Table, start: int, what: str, needed: int = 0) -> list[int]:
        """Follow a chain of sectors to its end, as the library does.

        A circle, an entry that is not a sector, or fewer sectors than needed are damage.
        """
        found: list[int] = []
        at = start
        while at != _END:
            if at >= len(table) or len(found) > len(table):
                raise self.damaged(f"the chain of sectors of {what} is broken")
            found.append(at)
            at = int(table[at])
        if len(found) < needed:
            raise self.damaged(f"{what} has {len(found)} of {needed} sectors")
        return found

    def _read(self) -> None:
        head = struct.unpack_from("<IIIIIIII", self.data, 44)
        fat_count, directory, _, cutoff, mini, _, difat, difat_count = head
        if max(fat_count, difat_count) > min(self.count, MAX_TABLE_SECTORS):
            raise self.damaged(f"its header claims {fat_count} tables")
        places = list(struct.unpack_from("<109I", self.data, 76))
        for _ in range(difat_count):
            more = np.frombuffer(self._sector(difat), "<u4").tolist()
            places += more[:-1]
            difat = more[-1]
        fat = self._table(places[:fat_count])
        small = self._table(self.chain(fat, mini, "its small table")) if mini != _END else fat[:0]
        budget = self.count + 1
        for sector in self.chain(fat, directory, "its directory"):
            raw = self._sector(sector)
            for at in range(0, len(raw), _ENTRY_BYTES):
                kind = raw[at + 66]
                start, length = struct.unpack_from("<II", raw, at + 116)
                if kind not in (_STREAM, _ROOT) or not length:
                    continue
                name = raw[at : at + 64].decode("utf-16-le", "replace").split("\0")[0]
                table, width = (
                    (small, 64) if kind == _STREAM and length < cutoff else (fat, self.sector_bytes)
                )
                chain = self.chain(table, start, f'"{name}"', -(-length // width))
                budget -= len(chain) if table is fat else 0
                if budget < 0:
                    raise self.damaged("its streams share sectors")


def check_compound(path: Path) -> None:
    """Follow every chain of sectors to its end.

    Raises
    ------
    ReadError
        A chain is a circle, leads out of the file or ends early; the text says which.
    """
    _Checker(path)
