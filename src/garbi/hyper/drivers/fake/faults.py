"""Which calls fail and how long they take: the driver's settings, read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from garbi.base.errors import GarbiError, InvalidField
from garbi.base.problem import error_classes

CHANGING_VERBS = ("prepare", "add", "start", "stop", "kill", "remove", "pause", "keep_disk", "drop_kept")
VERBS = (*CHANGING_VERBS, "observe")
FLAGS = ("unavailable", "persist")


@dataclass(frozen=True, slots=True)
class Fault:
    """The next `times` calls of `verb` (for ever: None), for one machine or any (None), fail with that error code."""

    verb: str
    code: str
    times: int | None = 1
    machine_id: str | None = None

    def __post_init__(self) -> None:
        if self.verb not in VERBS:
            raise ValueError(f"no verb is called {self.verb!r}; there are: {', '.join(VERBS)}")
        if self.code not in error_classes():
            raise ValueError(f"no error has the code {self.code!r}; there are: {', '.join(sorted(error_classes()))}")

    def strikes(self, verb: str, machine_id: str | None) -> bool:
        """Whether a call of that verb, for that machine, fails."""
        return self.verb == verb and self.machine_id in (None, machine_id) and self.times != 0

    def spent_once(self) -> Fault:
        return self if self.times is None else replace(self, times=self.times - 1)

    def error(self) -> GarbiError:
        """The error to raise."""
        cls = error_classes()[self.code]
        detail = f"{self.verb} fails as ordered from the fake driver"
        return cls("image", detail) if issubclass(cls, InvalidField) else cls(detail)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Fault:
        return cls(**json.loads(text))

    @classmethod
    def from_setting(cls, text: str) -> Fault:
        """Read `verb[@machine]:times:code`; raises ValueError saying what is wrong."""
        parts = text.strip().split(":")
        if len(parts) != 3:
            raise ValueError(f"a fault is written verb[@machine]:times:code, not {text!r}")
        verb, _, machine_id = parts[0].partition("@")
        times = None if parts[1] == "*" else int(parts[1])
        return cls(verb, parts[2], times, machine_id or None)


@dataclass(frozen=True, slots=True)
class FakeSettings:
    """The settings of a fake driver; delays in seconds by verb.

    `engine` is where its pretended daemon is, for agents that are to share one or to find it again without their data directory:
    a directory with `persist`, else any name. Empty: the driver's own.
    """

    delays: Mapping[str, float] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    unavailable: bool = False
    persist: bool = False
    engine: str = ""

    @classmethod
    def read(cls, settings: Mapping[str, str]) -> FakeSettings:
        """Read the settings as the agent has them; raises ValueError saying which one is wrong."""
        rest = dict(settings)
        everywhere = _seconds("delay_s", rest.pop("delay_s", "0"))
        delays = {verb: everywhere if verb in CHANGING_VERBS else 0.0 for verb in VERBS}
        for verb in VERBS:
            if f"{verb}_delay_s" in rest:
                delays[verb] = _seconds(f"{verb}_delay_s", rest.pop(f"{verb}_delay_s"))
        faults = tuple(Fault.from_setting(text) for text in rest.pop("faults", "").split(",") if text.strip())
        engine = rest.pop("engine", "")
        flags = {name: _flag(name, rest.pop(name, "false")) for name in FLAGS}
        if rest:
            raise ValueError(f"the fake driver has no setting called {', '.join(sorted(rest))}")
        return cls(delays, faults, engine=engine, **flags)


def _seconds(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise ValueError(f"{name} takes seconds, 0 or more, not {text!r}")
    return value


def _flag(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError(f"{name} takes true or false, not {text!r}")
    return text.lower() in ("true", "1", "yes")
