"""The schema comes into being from nothing, once, also when several controllers begin together or one is killed at it."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect
from tests.iaas_store.cloud import Cloud

from garbi.base import failpoints
from garbi.base.errors import DatabaseUnavailable, InvalidField
from garbi.iaas.store.migrate import MIGRATIONS, migrate
from garbi.iaas.store.schema import metadata
from garbi.storage.engine import make_engine


def test_a_database_comes_into_being_from_nothing_and_is_used(bare_url: str, directory: Path) -> None:
    migrate(bare_url)
    migrate(bare_url)
    cloud = Cloud.at(bare_url, directory)
    cloud.add_node()
    assert cloud.add_machine("web").node == "n1"
    cloud.database.close()


def test_the_migrations_make_the_schema_that_the_program_knows(bare_url: str) -> None:
    migrate(bare_url)
    engine = make_engine(bare_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        here = inspect(connection)
        for table in metadata.tables.values():
            named = {check["name"] for check in here.get_check_constraints(table.name)}
            assert {each.name for each in table.constraints if each.__visit_name__ == "check_constraint"} <= named
        assert context.get_current_revision() == MIGRATIONS.head
    engine.dispose()


def test_several_controllers_may_begin_together(bare_url: str, directory: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert [*pool.map(migrate, [bare_url] * 3)] == [None] * 3
    cloud = Cloud.at(bare_url, directory)
    assert cloud.add_node().name == "n1"
    cloud.database.close()


def test_a_migration_that_is_killed_is_done_by_the_next_one(bare_url: str, directory: Path) -> None:
    program = f"from garbi.storage.migrate import _upgrade; _upgrade({MIGRATIONS.package!r}, {bare_url!r})"
    environment = {**os.environ, "GARBI_CRASH_AT": "store.migrate.written"}
    died = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert died.returncode == failpoints.EXIT_CODE
    migrate(bare_url)
    cloud = Cloud.at(bare_url, directory)
    assert cloud.add_node().name == "n1"
    cloud.database.close()


@pytest.mark.parametrize("url", ["mysql://root@localhost/x", "nonsense", "", "oracle:x"])
def test_a_url_that_leads_to_no_database_of_ours_is_refused(url: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        migrate(url)
    assert refusal.value.extra["field"] == "database"


def test_a_server_that_is_not_there_is_told_without_the_password(directory: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="connection") as refusal:
        migrate(f"postgresql://me:do-not-tell@/x?host={directory}")
    assert "do-not-tell" not in refusal.value.detail
