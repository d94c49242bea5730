"""What an operator can set, all of it in one place: environment variables, each with a default that is right for most."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from garbi.base import places
from garbi.base.settings import read_settings, setting
from garbi.hyper_api.vocabulary import RESTART_PAUSES_S, RESTARTS_FORGOTTEN_AFTER_S

PREFIX = "GARBI_HYPER_"
DRIVER_PREFIX = "GARBI_DRIVER_"


def default_data_dir() -> Path:
    """Where the agent keeps its things unless told otherwise."""
    return places.default_data_dir("hyper")


def default_run_dir() -> Path:
    """Where agent, watchdog and fence keep what is of one boot: all that have one environment agree on it."""
    found = os.environ.get(f"{PREFIX}RUN_DIR")
    return Path(found) if found else places.default_run_dir()


def runtime_of(data_dir: Path, run_dir: Path | None = None) -> Path:
    """The directory of one data directory among those of a boot. Says it without a look at the data directory, which may hang."""
    name = hashlib.sha256(os.fsencode(places.resolve_name(data_dir))).hexdigest()[:16]
    return (run_dir or default_run_dir()) / name


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one agent; each is read from GARBI_HYPER_<NAME IN CAPITALS>."""

    data_dir: Path = setting(default_data_dir, "directory of the database, the images and the disks; on a local disk")
    run_dir: Path = setting(
        default_run_dir,
        "directory of what is of one boot, leases among it; in memory, so that no disk holds up the watchdog",
    )
    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(8081, "port to listen on; 0 takes a free one")
    node_name: str = setting(socket.gethostname, "name of this host in the answers")
    workers: int = setting(8, "machines of one type worked on at the same time")
    stop_deadline_s: float = setting(20.0, "seconds a machine has to end after being asked, before it is powered off")
    resync_period_s: float = setting(30.0, "seconds between two full comparisons with what the drivers see")
    audit_period_s: float = setting(300.0, "seconds between two audits of the invariants; 0: only when asked")
    copy_period_s: float = setting(
        86400.0, "seconds between two copies of the database, in the folder copies of data_dir; 0: none by itself"
    )
    copies_daily: int = setting(7, "of how many days one copy each is kept")
    copies_weekly: int = setting(4, "of how many weeks one copy each is kept")
    restart_pauses_s: tuple[float, ...] = setting(
        RESTART_PAUSES_S,
        "seconds before each restart of a machine that failed, and each repetition of a refused step; then it is given up",
    )
    restarts_forgotten_after_s: float = setting(
        RESTARTS_FORGOTTEN_AFTER_S, "seconds that a machine has to run for its earlier restarts to be forgotten"
    )
    mem_limit_mib: int = setting(
        0, "memory that machines may reserve together, in MiB; 0: that of the host less mem_kept_mib"
    )
    mem_kept_mib: int = setting(512, "memory kept for the host itself, in MiB")
    cpu_overcommit: float = setting(64.0, "processors that machines may reserve together, per processor of the host")
    max_image_bytes: int = setting(64 * 2**30, "largest image that is taken in, in bytes")
    max_virtual_bytes: int = setting(2 * 2**40, "largest disk that an image may unfold to, in bytes")
    upload_kept_s: float = setting(
        24 * 3600.0, "seconds after which an upload that was cut off and never continued is deleted"
    )
    image_share: str = setting(
        "", "images of the controller: the directory where they are mounted, or nfs://server/export/path; empty: none"
    )
    image_use: str = setting("in-place", "what becomes of an image of a mounted share: used in-place, or a copy")
    kernel_watchdog: str = setting(
        "",
        "device by which the kernel resets a host that is frozen while a lease is armed, as /dev/watchdog0; empty: none",
    )
    drivers: Mapping[str, Mapping[str, str]] = setting(dict, "settings of drivers, from GARBI_DRIVER_<DRIVER>_<NAME>")

    @property
    def place(self) -> str:
        """The data directory as machines are marked with it: absolute, whatever leads to it."""
        return str(places.resolve_name(self.data_dir))

    @property
    def runtime(self) -> Path:
        """The directory of what is of one boot, for this data directory."""
        return runtime_of(self.data_dir, self.run_dir)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
        """Read the settings; raises InvalidField, which names the variable, when one cannot be understood."""
        values = read_settings(cls, PREFIX, environment, without=("drivers",))
        values["drivers"] = _driver_settings(environment)
        return cls(**values | {name: value for name, value in overrides.items() if value is not None})


def _driver_settings(environment: Mapping[str, str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for variable, value in environment.items():
        driver, _, name = variable.removeprefix(DRIVER_PREFIX).partition("_")
        if variable.startswith(DRIVER_PREFIX) and driver and name:
            found.setdefault(driver.lower(), {})[name.lower()] = value
    return found
