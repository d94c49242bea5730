"""The files that a node gets from us, written here by typed writers: on the way to the host nothing reads them as a template."""

from __future__ import annotations

from garbi.base.errors import InvalidField
from garbi.iaas.provisioning.target import Share, Target

MOUNT_POINT = "/var/lib/garbi/share"
MOUNT_OPTIONS = "ro,nosuid,nodev,noexec,noatime,soft,timeo=100,retrans=3,_netdev"
"""Read-only, nothing of it is believed or run; a server that is gone gives an error, it does not hang the node."""


def data_dir(port: int) -> str:
    """Where the agent of a port keeps its things on the host."""
    return f"/var/lib/garbi/node-{port}"


def environment(target: Target, address: str) -> str:
    """The EnvironmentFile of the agent that listens at `address`."""
    values = {
        "GARBI_HYPER_DATA_DIR": data_dir(target.port),
        "GARBI_HYPER_HOST": address,
        "GARBI_HYPER_PORT": str(target.port),
        "GARBI_HYPER_NODE_NAME": target.name,
    }
    return "".join(f"{name}={_value(name, value)}\n" for name, value in values.items())


def share_environment(share: Share | None, image_use: str, mounted: bool) -> str:
    """What the agents of a host are told of the image share."""
    if share is None:
        return ""
    place = MOUNT_POINT if mounted else f"nfs://{_bracketed(share.server)}{share.path}"
    values = {"GARBI_HYPER_IMAGE_SHARE": place, "GARBI_HYPER_IMAGE_USE": image_use}
    return "".join(f"{name}={_value(name, value)}\n" for name, value in values.items())


def mount_unit(share: Share) -> str:
    """The systemd unit that mounts the image share."""
    source = _value("image_share", f"{_bracketed(share.server)}:{share.path}")
    lines = ["[Unit]", "Description=Images of the Garbi controller", "", "[Mount]", f"What={source}"]
    lines += [f"Where={MOUNT_POINT}", "Type=nfs", f"Options={MOUNT_OPTIONS}", "TimeoutSec=60"]
    return "\n".join([*lines, "", "[Install]", "WantedBy=remote-fs.target", ""])


def _bracketed(server: str) -> str:
    return f"[{server}]" if ":" in server else server


def _value(name: str, text: str) -> str:
    """What systemd reads as it stands: no quote, no specifier, no line end."""
    if not text.isascii() or not text.isprintable() or set(text) & set(" '\"\\$%#;`"):
        raise InvalidField(name, f"{name} {text[:80]!r} is not allowed here", "letters, digits and . _ - / : [ ]")
    return text
