"""Named microscope profiles of the user, in ``~/.zenhance/profiles``.

The environment variable ``ZENHANCE_PROFILES`` names another folder. A file carries the version of
its format; :func:`~zenhance.physics.profile.load_profile` refuses another one in a sentence.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from zenhance.errors import MethodError
from zenhance.io.commit import write_bytes
from zenhance.physics.profile import MicroscopeProfile

__all__ = ["profile_path", "profiles_folder", "save_profile", "saved_names"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}")


def profiles_folder() -> Path:
    """Return where the named profiles are kept."""
    given = os.environ.get("ZENHANCE_PROFILES")
    return Path(given).expanduser() if given else Path.home() / ".zenhance" / "profiles"


def profile_path(name: str) -> Path:
    """Return the path of a profile of that name, whether it exists or not.

    Raises
    ------
    MethodError
        The name is not a file name.
    """
    if not _NAME.fullmatch(name):
        raise MethodError(
            f'the profile\'s name is "{name[:60]}"; use at most 100 letters, digits, spaces, dots, '
            "dashes and underscores, and begin with a letter or digit"
        )
    return profiles_folder() / f"{name}.json"


def saved_names() -> tuple[str, ...]:
    """Return the names of all saved profiles, in alphabetical order."""
    return tuple(sorted(path.stem for path in profiles_folder().glob("*.json")))


def save_profile(profile: MicroscopeProfile, name: str, *, overwrite: bool = False) -> Path:
    """Save a profile under a name.

    Raises
    ------
    MethodError
        The name cannot be used.
    OutputExistsError, WriteError
        The file is there already, or cannot be written.
    """
    path = profile_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    named = profile.model_copy(update={"name": name})
    write_bytes(path, named.to_json().encode(), overwrite=overwrite)
    return path
