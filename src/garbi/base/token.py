"""The secret that stands for the right to command a service: its form, its file, and who may hold that file.

A service makes it at its first start and refuses a file that others can read; clients on the same host read the same file.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from pathlib import Path

from garbi.base.disks import kind_of
from garbi.base.errors import FinalError

TOKEN_FILE = "token"  # noqa: S105 - the name of the file, not what is in it
PREFIX = "garbi_"
"""What scanners for leaked secrets can look for."""

RANDOM_BYTES = 32
MAX_BYTES = 512
FORM = re.compile(r"[A-Za-z0-9._~+/-]{32,256}={0,2}\Z")
"""What a header can carry (RFC 6750), and long enough not to be guessed."""


class Secret(str):
    """A token. It is text, but does not show itself where values are printed for a log."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(…)"


def new_secret() -> Secret:
    """A token that nobody has: 256 random bits behind a prefix."""
    return Secret(PREFIX + secrets.token_urlsafe(RANDOM_BYTES))


def open_secret(data_dir: Path) -> Secret:
    """The token of the service that works in a directory and has its lock; made when there is none.

    Raises FinalError when others can read the file, when it is not ours or no token is in it, and NoSpace.
    """
    path = data_dir / TOKEN_FILE
    try:
        return _read_own(path)
    except FileNotFoundError:
        secret = new_secret()
    except OSError as error:
        raise FinalError(f"the token file {path} cannot be read: {error.strerror}; {_anew(path)}") from error
    keep_secret(data_dir, secret)
    return secret


def keep_secret(data_dir: Path, secret: Secret) -> None:
    """Put a token in place of the one of a directory; raises FinalError, NoSpace."""
    path = data_dir / TOKEN_FILE
    try:
        _write(path, secret)
    except OSError as error:
        raise kind_of(error, FinalError)(f"the token file {path} cannot be made: {error.strerror}") from error


def read_secret(path: Path) -> Secret:
    """The token in a file that a client was given, whoever has the file; raises OSError, or FinalError when none is in it."""
    with path.open("rb") as file:
        return _parse(file.read(MAX_BYTES), path, "name the file of the server")


def _read_own(path: Path) -> Secret:
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_held(os.fstat(file), path)
        return _parse(os.read(file, MAX_BYTES), path, _anew(path))
    finally:
        os.close(file)


def _check_held(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise FinalError(f"the token file {path} is not a regular file; {_anew(path)}")
    if found.st_uid != os.geteuid():
        detail = f"the token file {path} belongs to user {found.st_uid}, who knows what is in it; {_anew(path)}"
        raise FinalError(f"{detail}, or `chown {os.geteuid()} {path}` if that user may command this service")
    if found.st_mode & 0o077:
        detail = f"other users can open the token file {path} (mode {stat.S_IMODE(found.st_mode):04o}); {_anew(path)}"
        raise FinalError(f"{detail}, or `chmod 600 {path}` if nobody did")


def _parse(content: bytes, path: Path, mend: str) -> Secret:
    text = content.decode("ascii", "replace").strip()
    if not FORM.match(text):
        raise FinalError(f"no token is in {path}: it takes one line of 32 letters and digits or more; {mend}")
    return Secret(text)


def _anew(path: Path) -> str:
    return f"`rm {path}`, and the next start makes a new one"


def _write(path: Path, secret: Secret) -> None:
    """All of it or nothing, also when the power fails: a token that somebody was told must not change again."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(file, 0o600)
        os.write(file, f"{secret}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
    beside.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
