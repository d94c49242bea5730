"""Makes a bare host into a node over SSH, and a node into the host that it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from garbi.iaas.provisioning.target import Target as Target
from garbi.iaas.provisioning.target import TaskProgress as TaskProgress
from garbi.iaas.provisioning.target import check as check

STEPS_BEFORE_ANYTHING_CHANGES = 2
"""An addition first reaches the host, and prepares what it installs."""

OnProgress = Callable[[TaskProgress], None]


def provision(target: Target, on_progress: OnProgress, cancelled: threading.Event, data_dir: Path) -> tuple[str, ...]:
    """Make the host into a node whose hyper answers to the token; changes nothing where it is one already.

    Returns what the user should know of how it went.
    `data_dir` is the controller's: known host keys and the wheels for nodes are kept below it. Raises InvalidField,
    ProvisioningFailed (also when `cancelled` was set); it can be tried again.
    """
    from garbi.iaas.provisioning.work import add

    return add(target, on_progress, cancelled, data_dir).notes


def unprovision(target: Target, on_progress: OnProgress, cancelled: threading.Event, data_dir: Path) -> tuple[str, ...]:
    """Remove the node from its host, which is then as it was; no matter how much of the node is there.

    Returns what stays there, and why. Raises as `provision`.
    """
    from garbi.iaas.provisioning.work import remove

    return remove(target, on_progress, cancelled, data_dir).notes
