"""The check of `hyper doctor` that is about the database: whether a start would be refused, and what is to be done then."""

from __future__ import annotations

from garbi.base.checks import Finding, fail, ok
from garbi.base.errors import Busy, NoSpace, StorageFailed
from garbi.hyper.host.check import DoctorSettings
from garbi.hyper.host.identity import find_copied
from garbi.hyper.store.migrate import WAY_ON
from garbi.hyper.store.traces import DATABASE, find_loss
from garbi.storage.soundness import damage


def check_database(settings: DoctorSettings) -> Finding | None:
    """The database is whole, and as new as the files of the machines beside it; nothing to say where no agent has worked."""
    path = settings.data_dir / DATABASE
    copied = find_copied(settings.data_dir)
    if copied is not None:
        return fail(copied.words, copied.way_on)
    try:
        harm = damage(path)
        if harm is not None:
            return fail(f"the database {path} is damaged ({harm})", WAY_ON)
        loss = find_loss(settings.data_dir)
    except OSError as error:
        return fail(f"the database {path} cannot be looked at: {error.strerror}", "run this as the user of the agent")
    except (Busy, NoSpace, StorageFailed) as error:
        words, _, way_on = error.detail.partition(", nothing was changed: ")
        return fail(words, way_on)
    if loss is not None:
        return fail(loss.words, loss.way_on)
    return ok(f"{path} is whole") if path.exists() else None
