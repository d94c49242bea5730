"""The controller itself as it travels: whether it works, and a backup of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from garbi.base.bounds import Note, answered
from garbi.hyper_api import host


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(host.Health):
    """Whether the controller does its work, and whether it is the one of several that leads."""

    __pydantic_config__ = answered(
        {
            "status": "ok",
            "version": "0.1.0",
            "code": None,
            "detail": None,
            "leads": True,
            "term": 7,
            "leader": "controller-1 (pid 812)",
        }
    )

    leads: Annotated[bool, Note("False: it answers, and another does what is asked.")]
    term: Annotated[int, Note("How often a controller of this cloud began to lead.")]
    leader: Annotated[str, Note("Who began to lead last: host and process.")]


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup on the disk of the controller: where, how large, when, and what to do with it."""

    __pydantic_config__ = answered(
        {
            "path": "/var/lib/garbi/iaas/copies/iaas-20260301T020000Z.tar",
            "size": 1310720,
            "made_at": "2026-03-01T02:00:00.000Z",
            "database": True,
            "advice": "unpack it into an empty directory, and start once with `iaas serve --data-dir DIRECTORY --after-restore`",
        }
    )

    path: Annotated[str, Note("On the host of the controller.")]
    size: Annotated[int, Note("In bytes.")]
    made_at: datetime
    database: Annotated[bool, Note("False: it has the keys only, for the database is on a server.")]
    advice: Annotated[str, Note("How it is restored.")]
