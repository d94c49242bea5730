"""Single values of this data directory: who it is, for ever."""

from __future__ import annotations

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from garbi.hyper.store.database import Database, Transaction
from garbi.hyper.store.schema import meta

CLUSTER_ID = "cluster_id"
USED_DRIVER = "used-driver:"
VIOLATIONS = "violations"


def get_or_set(database: Database, key: str, value: str) -> str:
    """The value kept under `key`; `value` becomes it when there was none."""
    with database.write() as transaction:
        transaction.connection.execute(insert(meta).values(key=key, value=value).on_conflict_do_nothing())
        return str(transaction.connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar_one())


def get(connection: Connection, key: str) -> str | None:
    """The value kept under `key`."""
    found = connection.exec_driver_sql("SELECT value FROM meta WHERE key = ?", (key,)).scalar()
    return None if found is None else str(found)


def put(transaction: Transaction, key: str, value: str) -> None:
    """Keep `value` under `key`, in place of an earlier one."""
    kept = insert(meta).values(key=key, value=value)
    transaction.connection.execute(kept.on_conflict_do_update(index_elements=["key"], set_={"value": value}))


def note_driver(database: Database, name: str) -> None:
    """Write down that a driver may have made something on this host."""
    get_or_set(database, USED_DRIVER + name, "yes")


def used_drivers(database: Database) -> list[str]:
    """The drivers that may have made something on this host."""
    with database.read() as connection:
        keys = connection.execute(select(meta.c.key).where(meta.c.key.startswith(USED_DRIVER))).scalars()
        return sorted(key.removeprefix(USED_DRIVER) for key in keys)
