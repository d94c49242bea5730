"""What provisioning is told: which host becomes a node, and how it is reached. All of it is checked before anything reads it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from garbi.base.errors import InvalidField
from garbi.iaas.model.node import Ssh

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\Z"
)
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{32,512}\Z")
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}\Z")
PUBLIC_KEY = re.compile(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]{32,2048}={0,2}( [ -~]{0,256})?\Z"
)
SHARE_PATH = re.compile(r"/[A-Za-z0-9._/-]{0,512}\Z")


@dataclass(frozen=True, slots=True)
class Share:
    """Where the controller's images can be read over NFS."""

    server: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Share | None:
        """Read `nfs://server/path` or `server:/path`; None when empty. Raises InvalidField."""
        if not text:
            return None
        is_url = text.startswith("nfs://")
        server, slash, path = text.removeprefix("nfs://").partition("/") if is_url else text.partition(":/")
        share = cls(server.strip("[]"), "/" + path)
        if not slash or not is_host(share.server) or not SHARE_PATH.match(share.path) or ".." in share.path.split("/"):
            shape = "nfs://server/export/path"
            raise InvalidField("image_share", f"image_share {text[:80]!r} is not allowed: it looks like {shape}", shape)
        return share


@dataclass(frozen=True, slots=True)
class Target:
    """A host and the node that it shall be: hyper listens on `port`, answers to `token` and may read images from `share`.

    `image_use` is `in-place` or `copy`: what a machine does with an image of the share. `live_restore`: a Docker that is found
    there lets its containers run on while dockerd restarts, too. A `witness` gets neither engines nor images: it carries no
    machines.
    """

    name: str
    host: str
    port: int
    ssh: Ssh
    token: str = field(repr=False)
    share: str = ""
    image_use: str = "in-place"
    live_restore: bool = False
    witness: bool = False


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """`task` is being done: the `step`-th, from 1, of `steps`."""

    step: int
    steps: int
    task: str


def check(target: Target) -> None:
    """Raise InvalidField, which names the field, when a value could be anything else than what it stands for."""
    _demand("name", target.name, bool(NAME.match(target.name)), "small letters, digits and inner dashes")
    _demand("address", target.host, is_host(target.host), "an IP address or a host name")
    _demand("address", str(target.port), 0 < target.port < 65536, "a port from 1 to 65535")
    _demand("ssh.user", target.ssh.user, bool(USER.match(target.ssh.user)), "the name of a user")
    _demand("ssh.port", str(target.ssh.port), 0 < target.ssh.port < 65536, "a port from 1 to 65535")
    _demand("token", "", not target.token or bool(TOKEN.match(target.token)), "what a header can carry")
    _demand("image_use", target.image_use, target.image_use in ("in-place", "copy"), "in-place or copy")
    key = target.ssh.host_key
    if key is not None:
        _demand("ssh.host_key", key, bool(FINGERPRINT.match(key) or PUBLIC_KEY.match(key)), "SHA256:… or a public key")
    if target.ssh.key_file is not None:
        file = Path(target.ssh.key_file)
        _demand("ssh.key_file", str(file), file.is_absolute() and file.is_file(), "a file on the controller's host")
    Share.parse(target.share)


def is_host(text: str) -> bool:
    """Whether a text is an IP address or a host name, and nothing else."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return bool(HOST_NAME.match(text))
    return "%" not in text


def _demand(name: str, value: str, allowed: bool, what: str) -> None:
    if not allowed:
        raise InvalidField(name, f"{name} {value[:80]!r} is not allowed: it takes {what}", what)
