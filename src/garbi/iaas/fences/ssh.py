"""The fence that asks the host itself, over SSH: it holds its machines down, or kills them, and says that none runs."""

from __future__ import annotations

import json
import re
import socket
import threading
from pathlib import Path
from typing import Any

from garbi.base.child import Cancelled, Ended, run
from garbi.base.errors import FenceFailed, InvalidField
from garbi.iaas.fences.protocol import Outlook, Proof, Scope
from garbi.iaas.model.node import Node
from garbi.iaas.provisioning import node_files, playbook, ssh
from garbi.iaas.provisioning.hostkeys import HostKeyRefused, HostKeys, HostSilent
from garbi.iaas.provisioning.sandbox import confined
from garbi.iaas.provisioning.target import Target, check
from garbi.iaas.provisioning.words import clean

LIMIT_S = 40.0
KNOCK_S = 2.0
"""Who waits for a proof has a cloud to repair: a host that is down is given up soon."""

IMPATIENT = ssh.Patience(connect_s=10, alive_interval_s=2, alive_times=3)
"""But one whose kernel lets us in, and whose sshd is short of processors, has longer to say who it is."""

TIMED_OUT = "124"
"""The status of `timeout` when it ended a program."""

MAX_ANSWER_BYTES = 256 << 10
MAX_NAMED = 20
MACHINE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
ANSWER = re.compile(r"^garbi-fence ([0-9]{1,3}) (.*)$", re.MULTILINE)
AGENT = re.compile(r"^garbi-agent (runs|started|failed)$", re.MULTILINE)

SCRIPT = r"""
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
settings=/etc/garbi/node-%(port)d.env unit=garbi-hyper@%(port)d.service
if [ ! -x %(hyper)s ]; then echo "hyper is not installed for this node" >&2; exit 1; fi
for file in "$settings" /etc/garbi/share.env; do
    if [ -r "$file" ]; then
        while IFS= read -r line; do case $line in GARBI_*=*) export "$line" ;; esac; done <"$file"
    fi
done
code=0
set -- --controller %(controller)s --number %(number)d --data-dir %(data)s
answer=$(timeout -k 1 %(limit)d %(hyper)s fence "$@" </dev/null) || code=$?
printf 'garbi-fence %%d %%s\n' "$code" "$answer"
if [ "$code" != 0 ]; then exit; fi
if systemctl is-active -q "$unit"; then
    echo garbi-agent runs
else
    systemctl reset-failed "$unit" 2>/dev/null
    if timeout 5 systemctl start --no-block "$unit"; then echo garbi-agent started; else echo garbi-agent failed; fi
fi
"""
AS_ROOT = "sh -c 'if [ \"$(id -u)\" = 0 ]; then exec sh; else exec sudo -n sh; fi'"


class SshFence:
    """Runs `hyper fence` on the host. `controller_id` is the id of the cloud, `data_dir` the controller's directory."""

    name = "ssh"

    def __init__(self, controller_id: str, data_dir: Path, limit_s: float = LIMIT_S) -> None:
        self._controller_id, self._data_dir, self._limit_s = controller_id, data_dir, limit_s

    def applies_to(self, node: Node) -> str | None:
        """Whether this controller has a way to the host."""
        return None if node.provision else "the host was not set up by this controller: there is no SSH to it"

    def outlook(self, node: Node) -> Outlook:
        """It covers what may be created again; a host that is off is given up within the time of a knock."""
        return Outlook(Scope.RECREATABLE, KNOCK_S + self._limit_s)

    def prove(self, node: Node, cancelled: threading.Event) -> Proof:
        """Have the host stop what may run elsewhere and say so; starts its agent again. Raises FenceFailed."""
        target = Target(node.name, node.host, node.port, node.ssh, token="")
        try:
            check(target)
            known_hosts = HostKeys(self._data_dir).recall(target)
            with playbook.run_directory(self._data_dir, target, known_hosts) as directory:
                playbook.write(directory / ssh.SCRIPT, self._script(node))
                _knock(target)
                command = confined(ssh.command(target, AS_ROOT, IMPATIENT), directory, ssh.keys_of_user(target))
                with (directory / ssh.SCRIPT).open("rb") as script:
                    said = run(command, self._limit_s, cancelled, script.fileno(), max_bytes=MAX_ANSWER_BYTES)
        except (HostKeyRefused, HostSilent, Cancelled, InvalidField) as error:
            raise FenceFailed(_short(error)) from error
        except OSError as error:
            raise FenceFailed(f"SSH cannot be used here: {error}") from error
        return read_proof(said, node)

    def _script(self, node: Node) -> str:
        return SCRIPT % {
            "hyper": f"/opt/garbi/node-{node.port}/bin/hyper",
            "port": node.port,
            "limit": max(1, int(self._limit_s) - 8),
            "controller": self._controller_id,
            "number": node.lease,
            "data": node_files.data_dir(node.port),
        }


def _knock(target: Target) -> None:
    """Raise FenceFailed unless something takes connections where SSH should answer."""
    try:
        socket.create_connection((target.host, target.ssh.port), timeout=KNOCK_S).close()
    except OSError as error:
        why = "timed out" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise FenceFailed(f"no answer on port {target.ssh.port} of {target.host}: {why}") from error


def read_proof(said: Ended, node: Node) -> Proof:
    """What the host has proven; raises FenceFailed unless it says plainly that nothing runs, for the agent that the node has."""
    answers = ANSWER.findall(said.output)
    if not answers:
        raise FenceFailed(_refused(said, node))
    if len(answers) > 1:
        raise FenceFailed("the host answered more than once")
    code, text = answers[0]
    answer = _parse(text, code, said)
    running = _machines(answer, "running")
    if running:
        raise FenceFailed(f"the host could not stop {_listed(running)}{_why(answer, 'why')}{_complaint(said)}")
    if unseen := answer.get("unseen"):
        raise FenceFailed(f"the host cannot see what runs there{_why(answer, 'unseen') or f': {_short(unseen)[:200]}'}")
    if code != "0":
        raise FenceFailed(_failed(code, said))
    fenced = answer.get("fenced")
    if type(fenced) is not int or fenced != node.lease:
        raise FenceFailed(f"the host did not end lease {node.lease}, it speaks of {str(fenced)[:40]}")
    stopped, left, only = _machines(answer, "stopped"), _machines(answer, "left"), _covered(answer, node)
    parts = [f"stopped {_listed(stopped)}" if stopped else "nothing was to be stopped"]
    parts += [f"left {_listed(left)} running"] if left else []
    parts += [] if only is None else ["the database of its agent is lost, so that this says nothing of other machines"]
    agent = AGENT.search(said.output)
    parts += {
        "started": ["its agent was started again"],
        "failed": [f"its agent cannot be started{_complaint(said)}"],
    }.get(agent[1] if agent else "", [])
    words = f"the host answered by SSH: {', '.join(parts)}"
    return Proof("ssh", Scope.RECREATABLE, words, frozenset(stopped), frozenset(left), only)


def _covered(answer: dict[str, Any], node: Node) -> frozenset[str] | None:
    """The machines that the answer is about; None: all that the node has. Raises FenceFailed when it is another agent's.

    An agent whose database is lost does not know who it was: the marks at the engines say it of what it made, of nothing else.
    """
    agent = answer.get("cluster_id")
    if not node.cluster_id or agent == node.cluster_id:
        return None
    if agent is None:
        raise FenceFailed(
            "the hyper of the host is an older one, which does not say whose agent it speaks for: upgrade it"
        )
    if agent != "":
        raise FenceFailed(
            f"the host speaks for agent {_short(agent)[:8]}, and node {node.name} is agent {node.cluster_id[:8]}: its data "
            "directory was emptied, restored or replaced, so that this proves nothing"
        )
    earlier = answer.get("earlier")
    if not isinstance(earlier, dict) or node.cluster_id not in earlier:
        raise FenceFailed(
            f"the agent's database is lost on the host, and no machine of agent {node.cluster_id[:8]} is found there: "
            "this proves nothing"
        )
    return frozenset(_machines(earlier, node.cluster_id))


def _parse(text: str, code: str, said: Ended) -> dict[str, Any]:
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        return answer
    raise FenceFailed(
        _failed(code, said)
        if code != "0"
        else f"the host's answer cannot be read: {_short(text)[:200] or 'it is empty'}"
    )


def _failed(code: str, said: Ended) -> str:
    how = "did not end in time" if code == TIMED_OUT else f"ended with {code}"
    return f"hyper fence {how} on the host{_complaint(said)}"


def _machines(answer: dict[str, Any], field: str) -> list[str]:
    found = answer.get(field)
    if not isinstance(found, list) or not all(isinstance(each, str) and MACHINE_ID.match(each) for each in found):
        raise FenceFailed(f"the host's answer has no list of machines in {field!r}")
    return found


def _why(answer: dict[str, Any], field: str) -> str:
    """What the host says of the first thing that is in the way."""
    found = answer.get(field)
    words = _short(next(iter(found.values()), "")) if isinstance(found, dict) else ""
    return f": {words}" if words else ""


def _listed(machines: list[str]) -> str:
    more = len(machines) - MAX_NAMED
    return ", ".join(machines[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _refused(said: Ended, node: Node) -> str:
    """Why no answer came, in the words of ssh or of the host."""
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said.errors or "Host key verification failed" in said.errors:
        return "the host shows another key than the one that is known: somebody may be in between, or it was installed anew"
    if "Permission denied" in said.errors:
        return f"the host does not let {node.ssh.user} in{_complaint(said)}"
    return _short(said.errors) or f"the host said nothing that can be read, ssh ended with {said.code}"


def _complaint(said: Ended) -> str:
    words = _short(said.errors)
    return f": {words}" if words else ""


def _short(words: object) -> str:
    return " ".join(clean(words).split())[:500]
