"""What the operator of a controller can set: environment variables, each with a default that is right for most."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garbi.base import places
from garbi.base.errors import InvalidField
from garbi.base.settings import read_settings, setting
from garbi.hyper_api.vocabulary import NodeFailurePolicy
from garbi.iaas.model.machine import Strategy
from garbi.iaas.model.node import Overcommit

PREFIX = "GARBI_IAAS_"
DATABASE = "iaas.db"
IMAGES = "images"
SHORTEST_LEASE_S, LONGEST_LEASE_S = 5.0, 3600.0
"""What agents take; but a lease is at least as long as four checks, so that one that is lost ends none."""

SHORTEST_MARGIN_S = 5.0
"""A watchdog looks once a second, asks others for two, and has to kill what runs. What its clock may be slow is added later."""

TYPE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
IMAGE_USES = ("in-place", "copy")


def read_policies(text: str) -> dict[str, NodeFailurePolicy]:
    """The policies of `docker=recreate,libvirt=stay`; raises InvalidField."""
    found: dict[str, NodeFailurePolicy] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, equals, policy = (each.strip() for each in part.partition("="))
        if not equals or not TYPE.match(name) or name in found or policy not in list(NodeFailurePolicy):
            rule = "TYPE=stay or TYPE=recreate, each type once, with commas between them"
            raise InvalidField(
                "on_node_failure", f"on_node_failure {part[:80]!r} is not allowed: it takes {rule}", rule
            )
        found[name] = NodeFailurePolicy(policy)
    return found


def default_data_dir() -> Path:
    """Where the controller keeps its things unless told otherwise."""
    return places.default_data_dir("iaas")


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one controller; each is read from GARBI_IAAS_<NAME IN CAPITALS>."""

    data_dir: Path = setting(default_data_dir, "directory of the database and the images; on a local disk")
    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(8080, "port to listen on; 0 takes a free one")
    database: str = setting(
        "",
        "URL of the database: sqlite:////path/of/a/file or postgresql://user:password@host/name; empty: SQLite in data_dir",
    )
    strategy: str = setting("spread", "what decides among the nodes that fit: spread, pack or load")
    check_period_s: float = setting(3.0, "seconds between two checks of a node")
    unreachable_after_s: float = setting(10.0, "seconds of silence after which a node is unreachable")
    lease_ttl_s: float = setting(
        45.0,
        "seconds after which a node that hears nobody stops what may be created again elsewhere, where it can tell",
    )
    lease_margin_s: float = setting(
        20.0,
        "seconds after that within which it has stopped it for certain; counts as a quarter of the lease and 5 seconds at least",
    )
    on_node_failure: str = setting(
        "",
        "what becomes of a machine when its node fails and its user said nothing, by its type: docker=recreate,libvirt=stay; of "
        "a type that is not named: recreate for containers, stay for what has a disk",
    )
    image_dir: str = setting(
        "", "directory of the images, one for all controllers of a database; empty: images in data_dir"
    )
    audit_period_s: float = setting(300.0, "seconds between two audits of the invariants; 0: only when asked")
    copy_period_s: float = setting(
        86400.0, "seconds between two copies of the database, in the folder copies of data_dir; 0: none by itself"
    )
    copies_daily: int = setting(7, "of how many days one copy each is kept")
    copies_weekly: int = setting(4, "of how many weeks one copy each is kept")
    power_command: str = setting(
        "", "absolute path of the program that switches hosts off, run as PROGRAM off|status NODE HOST; empty: none"
    )
    fence_dir: str = setting("/usr/sbin", "directory of the fence agents that nodes are given by `iaas node set`")
    power_limit_s: float = setting(60.0, "seconds within which a host that is switched off must be off")
    workers: int = setting(8, "machines of one node worked on at the same time")
    provision_parallel: int = setting(4, "nodes added, drained or removed at the same time")
    max_image_bytes: int = setting(64 * 2**30, "largest image that is taken in, in bytes")
    max_virtual_bytes: int = setting(2 * 2**40, "largest disk that an image may unfold to, in bytes")
    image_share: str = setting(
        "", "where nodes mount the image directory from: nfs://server/export/path; empty: nowhere"
    )
    image_use: str = setting("in-place", "what nodes do with an image of the share: in-place or copy")
    overcommit_mem: float = setting(1.0, "memory of a node that may be reserved, per memory that it has")
    overcommit_cpus: float = setting(16.0, "processors of a node that may be reserved, per processor that it has")
    overcommit_disk: float = setting(4.0, "disk of a node that may be reserved, per disk that it has")

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("strategy", self.strategy, tuple(Strategy)),
            ("image_use", self.image_use, IMAGE_USES),
        ):
            if value not in allowed:
                words = ", ".join(allowed)
                raise InvalidField(name, f"{name} {value!r} is not allowed: it takes {words}", list(allowed))
        shortest = max(SHORTEST_LEASE_S, 4 * self.check_period_s)
        for name, number, least, most in (
            ("lease_ttl_s", self.lease_ttl_s, shortest, LONGEST_LEASE_S),
            ("lease_margin_s", self.lease_margin_s, SHORTEST_MARGIN_S, LONGEST_LEASE_S),
        ):
            if not least <= number <= most:
                rule = f"{least:g} to {most:g} seconds"
                raise InvalidField(name, f"{name} {number:g} is not allowed: it takes {rule}", rule)
        read_policies(self.on_node_failure)
        if self.power_command and not Path(self.power_command).is_absolute():
            what = "the absolute path of a program"
            raise InvalidField(
                "power_command", f"power_command {self.power_command!r} is not allowed: it takes {what}", what
            )

    @property
    def database_url(self) -> str:
        """Where the database is."""
        return self.database or f"sqlite:///{self.data_dir / DATABASE}"

    @property
    def image_directory(self) -> Path:
        """Where the images are."""
        return Path(self.image_dir) if self.image_dir else self.data_dir / IMAGES

    @property
    def overcommit(self) -> Overcommit:
        """The over-commit of a node that is added without one of its own."""
        return Overcommit(self.overcommit_mem, self.overcommit_cpus, self.overcommit_disk)

    @property
    def policies(self) -> Mapping[str, NodeFailurePolicy]:
        """What becomes of machines when their node fails, by their types, where the user says nothing."""
        return read_policies(self.on_node_failure)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
        """Read the settings; raises InvalidField, which names the variable, when one cannot be understood."""
        values = read_settings(cls, PREFIX, environment)
        return cls(**values | {name: value for name, value in overrides.items() if value is not None})
