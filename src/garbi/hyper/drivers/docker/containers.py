"""How a machine looks as a container: its name, its marks, its limits, and what the engine's words about it mean."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from garbi.base.errors import InvalidField
from garbi.hyper.drivers.protocol import Condition, MachineDefinition, Observation

CLUSTER_LABEL = "garbi.cluster"
MACHINE_LABEL = "garbi.machine"
MADE_LABEL = "garbi.made"
"""A random text, another for each container: an image made of it hands it on, and tells by it that it did."""

USER_LABEL_PREFIX = "garbi.label."
OWN_PREFIX = "garbi."

MIB = 1024 * 1024
LEAST_MEM = 6
"""In MiB: the engine makes no smaller container."""

PIDS_LIMIT = 4096
LOG_FILE_SIZE, LOG_FILES = "1m", "2"
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID")
"""What a service needs to bind its port, own its files and give up root; nothing that reaches the host or the network."""

NO_CHECKS = {"Test": ["NONE"]}
"""What an image asks the engine to run every so often would run beside the limits of the container, a thousand times a second."""

_STOP_SIGNAL = re.compile(
    r"(?:SIG)?(?:HUP|INT|QUIT|ABRT|KILL|USR[12]|TERM|CONT|WINCH|PWR|RTMIN(?:\+(?:[1-9]|1[0-5]))?|RTMAX(?:-(?:[1-9]|1[0-4]))?)"
    r"|[1-9]|[1-5][0-9]|6[0-4]",
    re.IGNORECASE,
)
KILLED = 137
_EXITED = re.compile(r"Exited \((-?\d+)\)")
_CONDITIONS = {
    "created": Condition.STOPPED,
    "exited": Condition.STOPPED,
    "running": Condition.RUNNING,
    "restarting": Condition.RUNNING,
    "paused": Condition.PAUSED,
    "removing": Condition.PARTIAL,
    "dead": Condition.PARTIAL,
}


@dataclass(frozen=True, slots=True)
class Marks:
    """By what the things of one cluster are known. A container whose id is not noted is ours if name and labels both say so: an
    image that was committed from a machine hands the labels on to whatever is made from it."""

    cluster_id: str

    @property
    def repository(self) -> str:
        """The engine's repository of our images; their tag is the sha256 of the content."""
        return f"garbi/{self.cluster_id[:8]}"

    @property
    def filters(self) -> dict[str, list[str]]:
        """What makes the engine list containers and events that may be ours."""
        return {"label": [f"{CLUSTER_LABEL}={self.cluster_id}"]}

    def image(self, sha256: str) -> str:
        return f"{self.repository}:{sha256}"

    def container(self, machine_id: str) -> str:
        return f"garbi-{self.cluster_id[:8]}-{machine_id}"

    def kept(self, name: str) -> str:
        """The name of a container that is kept: no machine's, for what follows `garbi-` there is hexadecimal."""
        return f"garbi-kept-{self.cluster_id[:8]}-{name}"

    def labels(self, machine: MachineDefinition) -> dict[str, str]:
        """All labels of the machine's container; the user's cannot be taken for ours."""
        users = {USER_LABEL_PREFIX + key: value for key, value in machine.labels.items()}
        marks = {OWN_PREFIX + key: text for key, text in machine.marks.items()}
        own = {CLUSTER_LABEL: self.cluster_id, MACHINE_LABEL: machine.id, MADE_LABEL: secrets.token_hex(8)}
        return {**users, **marks, **own}

    def bears(self, machine_id: str, labels: Mapping[str, str]) -> bool:
        """Whether labels are those of the machine, whatever the name beside them is."""
        return labels.get(CLUSTER_LABEL) == self.cluster_id and labels.get(MACHINE_LABEL) == machine_id

    def is_kept(self, name: str) -> bool:
        """Whether a container of that name is one that is kept."""
        return name.removeprefix("/").startswith(self.kept(""))

    def machine_of(self, name: str, labels: Mapping[str, str]) -> str | None:
        """The id of the machine that the container is; None when it is not ours."""
        machine_id = labels.get(MACHINE_LABEL, "")
        ours = labels.get(CLUSTER_LABEL) == self.cluster_id and name.removeprefix("/") == self.container(machine_id)
        return machine_id if ours else None


def container_config(machine: MachineDefinition, marks: Marks) -> dict[str, Any]:
    """The body of the engine's call "create a container"; raises InvalidField."""
    if machine.mem < LEAST_MEM:
        raise InvalidField(
            "mem", f"a container has {LEAST_MEM} MiB or more, not {machine.mem}", allowed=f">= {LEAST_MEM}"
        )
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in machine.ports:
        target = bindings.setdefault(f"{port.machine_port}/{port.protocol}", [])
        target.append({"HostIp": "0.0.0.0", "HostPort": str(port.node_port)})  # noqa: S104 - published means every address
    return {
        "Image": marks.image(machine.image.sha256),
        "Hostname": machine.id,
        "Labels": marks.labels(machine),
        "Healthcheck": NO_CHECKS,
        "Tty": False,
        "ExposedPorts": {target: {} for target in bindings},
        "HostConfig": {**_limits(machine), **_confinement(), "PortBindings": bindings},
    }


def _limits(machine: MachineDefinition) -> dict[str, Any]:
    return {
        "Memory": machine.mem * MIB,
        "MemorySwap": machine.mem * MIB,
        "NanoCpus": machine.cpus * 1_000_000_000,
        "PidsLimit": PIDS_LIMIT,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": LOG_FILE_SIZE, "max-file": LOG_FILES}},
    }


def _confinement() -> dict[str, Any]:
    return {
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": list(CAPABILITIES),
        "SecurityOpt": ["no-new-privileges"],
        "NetworkMode": "bridge",
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Init": False,
        "RestartPolicy": {"Name": "no"},
    }


def stop_signal(inspected: Mapping[str, Any]) -> str:
    """The signal by which the image wants to be ended. Where it names none, the engine sends such a container only SIGKILL."""
    asked = str(inspected["Config"].get("StopSignal") or "SIGTERM")
    return asked if _STOP_SIGNAL.fullmatch(asked) else "SIGKILL"


def observe_listed(machine_id: str, listed: Mapping[str, Any], killed_by_memory: bool) -> Observation:
    """The observation from one line of the engine's list, where the exit code is part of a sentence."""
    return _observation(machine_id, listed.get("State"), exit_code_listed(listed), killed_by_memory, listed)


def exit_code_listed(listed: Mapping[str, Any]) -> int:
    """The code that a line of the engine's list tells; 0 where it tells none."""
    exited = _EXITED.match(str(listed.get("Status", "")))
    return int(exited[1]) if exited else 0


def observe_inspected(machine_id: str, inspected: Mapping[str, Any]) -> Observation:
    """The observation from all that the engine knows of the container."""
    status = inspected["State"].get("Status")
    exit_code = int(inspected["State"].get("ExitCode", 0)) if status == "exited" else 0
    return _observation(machine_id, status, exit_code, ran_out_of_memory(inspected), inspected)


def ran_out_of_memory(inspected: Mapping[str, Any]) -> bool:
    """Whether the kernel ended the container for want of memory; a killed child alone does not count."""
    state = inspected["State"]
    return bool(state.get("OOMKilled")) and state.get("ExitCode") == KILLED


def _observation(
    machine_id: str, status: object, exit_code: int, killed_by_memory: bool, described: Mapping[str, Any]
) -> Observation:
    condition = _CONDITIONS.get(str(status), Condition.PARTIAL)
    if condition is not Condition.STOPPED:
        return Observation(machine_id, condition, address=_address(described))
    if exit_code == 0:
        return Observation(machine_id, condition)
    return Observation(
        machine_id, condition, "killed: out of memory" if killed_by_memory else f"exited with code {exit_code}"
    )


def _address(described: Mapping[str, Any]) -> str | None:
    networks = (described.get("NetworkSettings") or {}).get("Networks") or {}
    return next((network["IPAddress"] for network in networks.values() if network.get("IPAddress")), None)
