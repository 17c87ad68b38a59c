"""Messages in the words of the dock: a field's label instead of an option of the command line."""

from __future__ import annotations

import re

from zenhance.errors import sentence

__all__ = ["dock_sentence", "in_dock_words"]

_LABELS = {
    "voxel-size": "voxel",
    "axes": "axes",
    "psf": "PSF",
    "profile": "profile",
    "even-light": "even out depth",
    "method": "method",
    "weights": "weights",
    "learn": "learn first",
    "device": "device",
    "channel": "channel",
    "output": "result",
    "dtype": "pixel type",
    "background": "background",
    "statistics": "statistics",
    "seed": "seed",
}
# Sentences whose advice is another one in the dock.
_ADVICE = (
    ("run again with --debug and report the traceback", "report it with the traceback in the log"),
    ("give it with --voxel-size Z,Y,X or set the layer's scale", 'type it under "voxel"'),
)
_EXAMPLE = re.compile(r",? for example --[a-z-]+ [^\s;]+")
# An option with its value, such as "--learn 10min" or "--voxel-size Z,Y,X".
_OPTION = re.compile(r"(with )?--([a-z][a-z-]*)((?: |=)(?:[A-Z][A-Z,]*|[\d.]+[a-z]*|[a-z_]+=\S+))?")


def in_dock_words(text: str) -> str:
    """Return a message with the dock's labels in place of options of the command line."""
    for theirs, ours in _ADVICE:
        text = text.replace(theirs, ours)
    return _OPTION.sub(_label, _EXAMPLE.sub("", text))


def dock_sentence(error: BaseException) -> str:
    """Return an error as one sentence in the words of the dock."""
    return in_dock_words(sentence(error))


def _label(found: re.Match[str]) -> str:
    label = _LABELS.get(found[2])
    if label is None:
        return found[0]
    return f'under "{label}"' if found[1] else f'"{label}"'
