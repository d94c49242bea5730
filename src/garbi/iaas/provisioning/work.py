"""The course of an addition and of a removal: first contact, wheels, playbook; each failure in the host's own words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from garbi.base.child import Cancelled
from garbi.base.errors import InvalidField, ProvisioningFailed
from garbi.iaas.provisioning import node_files, playbook, ssh
from garbi.iaas.provisioning.hostkeys import HostKeyRefused, HostKeys, HostSilent
from garbi.iaas.provisioning.playbook import Outcome, TaskFailed
from garbi.iaas.provisioning.sandbox import INSIDE
from garbi.iaas.provisioning.target import Share, Target, TaskProgress, check
from garbi.iaas.provisioning.wheels import WheelsMissing, wheels_for
from garbi.iaas.provisioning.words import clean

ADD, REMOVE = "add_node", "remove_node"
REACH, PREPARE = "reach the host", "prepare the wheels"
OnProgress = Callable[[TaskProgress], None]


def add(target: Target, on_progress: OnProgress, cancelled: threading.Event, data_dir: Path) -> Outcome:
    """Make the host into a node; the outcome says how much changed. Raises InvalidField, ProvisioningFailed."""
    if not target.token:
        raise InvalidField("token", "a node needs a token, and this one has none")
    course = _Course(target, on_progress, cancelled, data_dir, playbook.count_tasks(ADD) + 2)
    with course.connected() as (host, directory):
        course.begin(PREPARE)
        try:
            wheels = wheels_for(host.python, host.architecture, data_dir)
        except (WheelsMissing, OSError) as error:
            raise course.failure(PREPARE, f"the controller cannot prepare what the node installs: {error}") from error
        share = None if target.witness else Share.parse(target.share)
        _write_node_files(directory, target, host.address, share)
        variables = {
            "garbi_codename": host.codename,
            "garbi_release": wheels.release,
            "garbi_archive": str(wheels.archive),
            "garbi_files": str(INSIDE / "node"),
            "garbi_share": share is not None,
            "garbi_live_restore": target.live_restore,
            "garbi_witness": target.witness,
        }
        return course.play(ADD, host, directory, variables, [wheels.archive])


def remove(target: Target, on_progress: OnProgress, cancelled: threading.Event, data_dir: Path) -> Outcome:
    """Make the host what it was before the node; raises InvalidField, ProvisioningFailed."""
    course = _Course(target, on_progress, cancelled, data_dir, playbook.count_tasks(REMOVE) + 1)
    with course.connected() as (host, directory):
        return course.play(REMOVE, host, directory, {}, [])


def _write_node_files(directory: Path, target: Target, address: str, share: Share | None) -> None:
    written = {
        "token": f"{target.token}\n",
        "environment": node_files.environment(target, address),
        "share-mounted": node_files.share_environment(share, target.image_use, mounted=True),
        "share-read": node_files.share_environment(share, target.image_use, mounted=False),
        "mount-unit": "" if share is None else node_files.mount_unit(share),
    }
    for name, content in written.items():
        playbook.write(directory / "node" / name, content)


class _Course:
    """One addition or removal: where it is, and how its failures read."""

    def __init__(
        self, target: Target, on_progress: OnProgress, cancelled: threading.Event, data_dir: Path, steps: int
    ) -> None:
        check(target)
        self._target, self._on_progress, self._cancelled, self._data_dir = target, on_progress, cancelled, data_dir
        self._step, self._steps = 0, steps

    def begin(self, task: str) -> None:
        """Tell that the next step begins."""
        self._step += 1
        self._on_progress(TaskProgress(self._step, max(self._steps, self._step), task))

    def failure(self, task: str, words: object) -> ProvisioningFailed:
        """The error of a task."""
        said = clean(words, (self._target.token,))
        host = self._target.host
        return ProvisioningFailed(f"{host}: {task} failed: {said}", task=task, host=host, words=said)

    @contextmanager
    def connected(self) -> Iterator[tuple[ssh.Host, Path]]:
        """What the host is, once it has proven to be itself and has let us in; a directory for the run."""
        self.begin(REACH)
        try:
            known_hosts = HostKeys(self._data_dir).admit(self._target)
            with playbook.run_directory(self._data_dir, self._target, known_hosts) as directory:
                yield self._examine(directory), directory
        except (HostKeyRefused, HostSilent, OSError) as error:
            raise self.failure(REACH, error) from error
        except Cancelled as error:
            raise self.failure(REACH, error) from error

    def _examine(self, directory: Path) -> ssh.Host:
        code, answer, errors = playbook.examine(self._target, directory, self._cancelled)
        if code:
            raise self.failure(REACH, _explain(errors or answer or f"ssh ended with {code}", self._target))
        try:
            return ssh.read_answer(answer)
        except ssh.UnfitHost as error:
            raise self.failure("look at the host", error) from error

    def play(self, name: str, host: ssh.Host, directory: Path, more: dict[str, Any], shown: list[Path]) -> Outcome:
        """Run a playbook to its end."""
        variables = {
            "ansible_become": host.sudo,
            "garbi_port": self._target.port,
            "garbi_data_dir": node_files.data_dir(self._target.port),
            **more,
        }
        task = "start Ansible"

        def on_task(step: int, name: str) -> None:
            nonlocal task
            task = name
            self.begin(name)

        try:
            return playbook.play(name, self._target, directory, variables, shown, on_task, self._cancelled)
        except TaskFailed as error:
            raise self.failure(error.task, error.words) from error
        except Cancelled as error:
            raise self.failure(task, error) from error


def _explain(said: str, target: Target) -> str:
    """What ssh said, and the way on where ssh does not know it."""
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said or "Host key verification failed" in said:
        return (
            f"{said}\nthe host shows another key than the one that is known. Somebody may be in between; if the host was "
            "installed anew, give its new key with --ssh-host-key"
        )
    if "Permission denied" in said:
        with_key = (
            f"the key {target.ssh.key_file}" if target.ssh.key_file else "the keys of the user who runs the controller"
        )
        return f"{said}\nthe host does not let {target.ssh.user} in with {with_key}: put the public key into its authorized_keys"
    return said
