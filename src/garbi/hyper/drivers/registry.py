"""The one place that names concrete drivers: the entry-point group `garbi.drivers`, ours and third parties' alike."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

from garbi.base.errors import DriverUnavailable, UnknownType
from garbi.hyper.drivers import protocol
from garbi.hyper.drivers.protocol import Driver, DriverContext, DriverInfo

GROUP = "garbi.drivers"

ABILITIES: Mapping[str, type] = {
    "pause": protocol.Pausable,
    "repeated-stop": protocol.MissesStops,
    "processes": protocol.ProcessFinder,
    "survey": protocol.Surveyor,
    "console-log": protocol.ConsoleLog,
    "figures": protocol.LiveFigures,
    "images": protocol.ImageKeeper,
    "kept-disks": protocol.DiskKeeper,
    "footprint": protocol.HostFootprint,
    "any-image": protocol.AnyImage,
    "registry": protocol.RegistryPuller,
    "network": protocol.NetworkAttached,
}
"""The name that users see for each ability; whether a driver has it is decided by isinstance alone."""


def abilities(driver: Driver) -> list[str]:
    """The names of the abilities that a driver has."""
    return [name for name, ability in ABILITIES.items() if isinstance(driver, ability)]


def installed(name: str | None = None) -> list[EntryPoint]:
    """Where every installed driver is, or the one of that name."""
    return [point for point in entry_points(group=GROUP) if name in (None, point.name)]


class DriverRegistry:
    """The drivers of one agent, loaded when first asked for, so that a host without libvirt still runs Docker."""

    def __init__(self, make_context: Callable[[str], DriverContext], found: Iterable[EntryPoint] | None = None) -> None:
        self._make_context = make_context
        self._entry_points = {point.name: point for point in (installed() if found is None else found)}
        self._loaded: dict[str, Driver] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Every driver that is installed, usable or not, in alphabetical order."""
        return sorted(self._entry_points)

    def get(self, name: str) -> Driver:
        """The driver of that name; raises UnknownType, or DriverUnavailable when it cannot be loaded (its library is missing)."""
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = self._load(name)
            return self._loaded[name]

    def find(self, name: str) -> Driver | None:
        """The driver of that name if it could be loaded; raises UnknownType."""
        try:
            return self.get(name)
        except DriverUnavailable:
            return None

    def info(self, name: str) -> DriverInfo:
        """What the driver says of itself, also when it cannot even be loaded."""
        try:
            return self.get(name).info()
        except DriverUnavailable as error:
            return DriverInfo(name=name, available=False, reason=error.detail)

    def close(self) -> None:
        """Close every driver that was loaded."""
        for driver in self._loaded.values():
            driver.close()

    def _load(self, name: str) -> Driver:
        if name not in self._entry_points:
            raise UnknownType(
                "type", f"no driver is called {name!r}; there are: {', '.join(self.names())}", allowed=self.names()
            )
        try:
            factory: Callable[[DriverContext], Driver] = self._entry_points[name].load()
            return factory(self._make_context(name))
        except Exception as error:  # a third party's import may fail in any way
            raise DriverUnavailable(f"driver {name} cannot be loaded: {error}", driver=name) from error
