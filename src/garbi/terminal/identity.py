"""Which token a command shows, and what is said to a person whose command was refused for want of one."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from garbi.base.errors import FinalError
from garbi.base.places import SYSTEM, default_data_dir
from garbi.base.token import TOKEN_FILE, Secret, read_secret


def find_token(
    option_file: Path | None,
    env_prefix: str,
    default_data_dir: Path,
    url: str,
    environment: Mapping[str, str] = os.environ,
) -> Secret | None:
    """The token in the file that was named, by option or <env_prefix>TOKEN_FILE; else that of this host's own service.

    The latter is shown to nobody but this host: None when `url` leads elsewhere, or when there is none that can be read.
    Raises FinalError when the file that was named has no token.
    """
    named = option_file or environment.get(env_prefix + "TOKEN_FILE")
    if named:
        return _named(Path(named))
    if is_local(url):
        for path in local_token_files(env_prefix, default_data_dir, environment):
            with suppress(OSError, FinalError):
                return read_secret(path)
    return None


def local_token_files(
    env_prefix: str, default_data_dir: Path, environment: Mapping[str, str] = os.environ
) -> list[Path]:
    """Where the token of a service of this host may be: in the directory that it was told, in one's own, in root's."""
    told = environment.get(env_prefix + "DATA_DIR")
    folders = [Path(told)] if told else [default_data_dir, SYSTEM / default_data_dir.name]
    return [folder / TOKEN_FILE for folder in dict.fromkeys(folders)]


def is_local(url: str) -> bool:
    """Whether a URL leads to this host by a loopback address."""
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether only this host reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def where_token(program: str) -> list[str]:
    """What to do about a token that is missing or wrong, in lines."""
    variable = f"GARBI_{program.upper()}_"
    lines = []
    for path in local_token_files(variable, default_data_dir(program)):
        with suppress(OSError):
            if path.exists() and not os.access(path, os.R_OK):
                lines.append(f"a token is in {path}, which you cannot read: try with sudo")
    rule = f"the server's token is in the file `{TOKEN_FILE}` of its data directory; `{program} serve` says where"
    return [*lines, f"{rule}. Name the file, or a copy, by --token-file or {variable}TOKEN_FILE"]


def _named(path: Path) -> Secret:
    try:
        return read_secret(path)
    except OSError as error:
        raise FinalError(f"the token file {path} cannot be read: {error.strerror}") from error
