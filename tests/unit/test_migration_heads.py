"""A database of an earlier version is brought to the newest migration that there is, and not to one before."""

from __future__ import annotations

from importlib.resources import files

import pytest

from garbi.hyper.store.migrate import MIGRATIONS as OF_AGENT
from garbi.iaas.store.migrate import MIGRATIONS as OF_CONTROLLER
from garbi.storage.migrate import Migrations


@pytest.mark.parametrize("migrations", [OF_AGENT, OF_CONTROLLER])
def test_the_head_is_the_newest_migration(migrations: Migrations) -> None:
    versions = (files(migrations.package) / "migrations" / "versions").iterdir()
    assert migrations.head == max(each.name.partition("_")[0] for each in versions if each.name.endswith(".py"))
