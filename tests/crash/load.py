"""Users who all want something at once, written down by them, for an agent that is killed under their hands."""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from random import Random

from garbi.base.errors import GarbiError
from garbi.hyper.agent import Agent
from garbi.hyper.main import open_agent
from garbi.hyper.model.machine import MachineSpec, Wish
from garbi.hyper.settings import Settings

USERS = 4
MACHINES_EACH = 3


class Journal:
    """Lines `asked|answered VERB ID` in a file, each on its way to the disk before the writer goes on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def write(self, event: str, verb: str, machine_id: str) -> None:
        with self._lock, self._path.open("a", encoding="ascii") as file:
            file.write(f"{event} {verb} {machine_id}\n")

    def text(self) -> str:
        """All that was written so far."""
        return self._path.read_text(encoding="ascii") if self._path.exists() else ""

    def read(self) -> dict[tuple[str, str], set[str]]:
        """The ids by event and verb."""
        found: dict[tuple[str, str], set[str]] = defaultdict(set)
        for line in self.text().splitlines():
            event, verb, machine_id = line.split()
            found[event, verb].add(machine_id)
        return found


@dataclass(frozen=True, slots=True)
class Load:
    """One round: the settings of the agent, where to write down, and what makes the choices of this round."""

    settings: Settings
    journal: Path
    seed: str


def be_under_load(load: Load) -> None:
    """Be an agent with several users until killed."""
    agent = open_agent(load.settings)
    journal = Journal(load.journal)
    users = [threading.Thread(target=_use, args=(agent, journal, load.seed, number)) for number in range(USERS)]
    for user in users:
        user.start()
    for user in users:
        user.join()


def _use(agent: Agent, journal: Journal, seed: str, number: int) -> None:
    """Create, stop, start, pause and remove machines of one's own without end."""
    random = Random(f"{seed} {number}")
    for turn in itertools.count():
        mine = [each.id for each in agent.machines.list() if each.id.startswith(f"u{number}-")]
        try:
            if len(mine) < MACHINES_EACH:
                _create(agent, journal, f"u{number}-{seed}-t{turn}")
            elif random.random() < 0.4:
                _remove(agent, journal, random.choice(mine))
            else:
                agent.machines.wish(random.choice(mine), random.choice((Wish.RUNNING, Wish.STOPPED, Wish.PAUSED)))
        except GarbiError:  # refused: the machine is not in a state for that
            continue


def _create(agent: Agent, journal: Journal, machine_id: str) -> None:
    journal.write("asked", "create", machine_id)
    agent.machines.add(MachineSpec(image="any", type="fake", id=machine_id, mem=64))
    journal.write("answered", "create", machine_id)


def _remove(agent: Agent, journal: Journal, machine_id: str) -> None:
    journal.write("asked", "remove", machine_id)
    agent.machines.remove(machine_id)
    journal.write("answered", "remove", machine_id)
