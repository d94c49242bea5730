"""How the host of one node is switched off: by which of Debian's fence agents, and what that has to be told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from garbi.base.errors import InvalidField
from garbi.iaas_api.nodes import Power as Power

AGENT = re.compile(r"fence_[a-z0-9_]{1,58}\Z")
OPTION = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
OURS = ("action", "method")
"""Options that are not the user's: what is asked for is `off` and `status`, never a cycle or a reboot."""

SECRET = re.compile(r"passw|secret|token|community|priv")
"""In the name of an option: its value is shown to nobody."""

MOST_OPTIONS, LONGEST_VALUE = 32, 4096


@dataclass(frozen=True, slots=True)
class PowerChange:
    """What is wanted otherwise; None takes an option, or as the agent the one of before. Options that are not named stay."""

    agent: str | None = None
    options: Mapping[str, str | None] = field(default_factory=dict)
    secrets: Mapping[str, str | None] = field(default_factory=dict, repr=False)


def changed(before: Power | None, kept: Mapping[str, str], change: PowerChange) -> tuple[Power, dict[str, str]]:
    """The power of a node after a change, and the values of its secrets, of which `kept` were there; raises InvalidField.

    Another agent has nothing of the options of the one before.
    """
    agent = change.agent or (before.agent if before is not None else "")
    if not AGENT.match(agent):
        rule = "the name of a fence agent, such as fence_ipmilan"
        raise InvalidField("power.agent", f"power.agent {agent[:80]!r} is not allowed: it takes {rule}", rule)
    same = before is not None and before.agent == agent
    options: dict[str, str] = dict(before.options) if same and before is not None else {}
    secrets = dict(kept) if same else {}
    for name, value in (*change.options.items(), *change.secrets.items()):
        _check(name, value)
        hidden = name in change.secrets or SECRET.search(name) is not None
        options.pop(name, None)
        secrets.pop(name, None)
        if value is not None:
            (secrets if hidden else options)[name] = value
    if len(options) + len(secrets) > MOST_OPTIONS:
        rule = f"at most {MOST_OPTIONS} options"
        raise InvalidField("power.options", f"power.options takes {rule}", rule)
    return Power(agent, options, tuple(sorted(secrets))), secrets


def _check(name: str, value: str | None) -> None:
    where = f"power.options.{name[:80]}"
    if not OPTION.match(name) or name in OURS:
        rule = "names of options of the agent, but not " + " and ".join(OURS)
        raise InvalidField(
            "power.options", f"the option {name[:80]!r} is not allowed: power.options takes {rule}", rule
        )
    if value is not None and not (0 < len(value) <= LONGEST_VALUE and value.isprintable()):
        rule = f"one line of 1 to {LONGEST_VALUE} characters"  # the value itself may be a secret
        raise InvalidField(where, f"{where} is not allowed: it takes {rule}", rule)
