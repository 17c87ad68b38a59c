"""Settings of a run in a YAML file, the same that ``zenhance enhance --request`` takes."""

from __future__ import annotations

from pathlib import Path

from zenhance.errors import RecipeError
from zenhance.pipeline import EnhanceRequest

__all__ = ["read_settings", "write_settings"]

# A request is a few hundred bytes, a provenance record some kilobytes; anything larger was chosen by mistake.
MAX_BYTES = 2**20


def read_settings(path: Path) -> EnhanceRequest:
    """Read a request, or the request within the record of an earlier result.

    Raises
    ------
    RecipeError
        The file cannot be read, or is not such a request.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecipeError(
                f'"{path.name}" has {path.stat().st_size} bytes, too many for settings (at most {MAX_BYTES}); choose another file'
            )
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            f'the settings "{path.name}" cannot be read ({str(error)[:80]}); choose a YAML file'
        ) from error
    return EnhanceRequest.from_yaml(text)


def write_settings(path: Path, request: EnhanceRequest) -> None:
    """Write a request; the file dialog has already asked before an existing file is replaced.

    Raises
    ------
    WriteError
        The folder refuses writing or the disk is full; an existing file is unchanged.
    """
    from zenhance.io.commit import commit

    if path.suffix.lower() not in (".yaml", ".yml"):
        path = path.with_name(f"{path.name}.yaml")
    text = request.to_yaml()

    def verify(partial: Path) -> None:
        EnhanceRequest.from_yaml(partial.read_text(encoding="utf-8"))

    commit(
        path,
        lambda partial: _fill(partial, text),
        verify=verify,
        needed_bytes=len(text.encode()),
        overwrite=True,
    )


def _fill(partial: Path, text: str) -> None:
    partial.write_text(text, encoding="utf-8")
