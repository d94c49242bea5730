"""Copies of databases are made by age, before upgrades and on demand, take bounded space, and are good for a restore."""

from __future__ import annotations

import shutil
import stat
import subprocess
import tarfile
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from alembic import command
from alembic.config import Config
from tests.data_loss.services import LIMIT_S, Service, lose, service
from tests.leases.words import eventually

from garbi.base.clock import SystemClock
from garbi.base.errors import NoSpace
from garbi.hyper.drivers.fake import FakeWorld
from garbi.hyper.store.migrate import MIGRATIONS
from garbi.storage.copies import Copies, Copy, CopyRules, superfluous
from garbi.storage.engine import make_engine, url_of

RULES = CopyRules()


def test_days_and_weeks_keep_one_each() -> None:
    newest = datetime(2026, 3, 31, 12, tzinfo=UTC)
    moments = [newest - timedelta(hours=6 * number) for number in range(4 * 100)]
    copies = [Copy(Path(f"{moment:%Y%m%d%H}"), moment, before_upgrade=False) for moment in moments]
    copies += [Copy(Path(f"upgrade-{day}"), newest - timedelta(days=day), before_upgrade=True) for day in range(5)]
    kept = [copy for copy in copies if copy not in superfluous(copies, RULES)]
    days = {copy.made_at.date() for copy in kept if not copy.before_upgrade}
    assert days >= {(newest - timedelta(days=day)).date() for day in range(7)}
    assert len({copy.made_at.isocalendar()[:2] for copy in kept}) >= 4
    assert len([copy for copy in kept if not copy.before_upgrade]) <= 7 + 4
    assert len([copy for copy in kept if copy.before_upgrade]) == 2
    assert superfluous(kept, RULES) == []


def test_none_is_made_that_would_fill_the_disk(place: Path) -> None:
    copies = Copies(place, "hyper", ".db", lambda: 1 << 60, lambda _target: None, SystemClock(), RULES)
    with pytest.raises(NoSpace, match="MiB are free"):
        copies.make()
    assert copies.list() == []
    roomy = Copies(place, "hyper", ".db", lambda: 0, lambda _target: None, SystemClock(), RULES)
    assert roomy.is_due()
    assert roomy.make().stat().st_size == 0
    assert not roomy.is_due()
    assert replace(RULES, period_s=0).period_s == 0


def test_an_agent_copies_its_database_by_age_and_goes_on_from_a_copy(hyper: Service) -> None:
    hyper.settings["GARBI_HYPER_COPY_PERIOD_S"] = "0.5"
    hyper.serve()
    hyper.hyper.machines.add({"image": "any", "type": "fake", "id": "web", "mem": 64}, wait_s=LIMIT_S)
    folder = hyper.data_dir / "copies"
    before = {path.name for path in folder.glob("*.db")} if folder.exists() else set()
    eventually("a copy is made", lambda: folder.exists() and {path.name for path in folder.glob("*.db")} - before)
    hyper.kill()
    newest = max(folder.glob("*.db"))
    assert stat.S_IMODE(newest.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    lose(hyper.database)
    shutil.copyfile(newest, hyper.database)
    hyper.serve("--adopt")  # it is as new as the files, or brought up to them
    assert hyper.hyper.machines.get("web")["state"] == "running"


def test_a_copy_is_made_before_an_upgrade(hyper: Service) -> None:
    hyper.data_dir.mkdir()
    hyper.database.touch(mode=0o600)
    config = Config()
    config.set_main_option("script_location", str(files(MIGRATIONS.package) / "migrations"))
    engine = make_engine(url_of(hyper.database), quick=True)
    with engine.connect().execution_options(garbi_write=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
    engine.dispose()
    hyper.serve()
    made = [path.name for path in (hyper.data_dir / "copies").iterdir()]
    assert len(made) == 1
    assert made[0].endswith(f"-before-{MIGRATIONS.head}.db")


def test_a_controller_is_restored_elsewhere_and_its_nodes_go_on(place: Path, hyper: Service, iaas: Service) -> None:
    hyper.serve()
    iaas.serve()
    client, address = iaas.iaas, urlsplit(hyper.url).netloc
    token = (hyper.data_dir / "token").read_text().strip()
    client.nodes.add({"name": "n1", "address": address, "provision": False, "token": token})
    eventually("the node is ready", lambda: client.nodes.get("n1")["state"] == "ready")
    client.machines.add({"image": "any", "type": "fake", "id": "web", "mem": 64}, wait_s=LIMIT_S)
    file = place / "backup.tar"
    done = iaas.run("--url", iaas.url, "--token-file", str(iaas.data_dir / "token"), "backup", "controller", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert str(file) in done.stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    client.machines.add({"image": "any", "type": "fake", "id": "younger", "mem": 64}, wait_s=LIMIT_S)
    iaas.kill()

    restored = place / "elsewhere"
    with tarfile.open(file) as tar:
        assert {"iaas.db", "token", "cluster-id"} <= set(tar.getnames())
    restored.mkdir(mode=0o711)
    subprocess.run(["tar", "-xf", str(file), "-C", str(restored)], check=True)  # as the page says
    with ExitStack() as stack:
        other = stack.enter_context(service("iaas", restored))
        other.serve("--after-restore")
        eventually("the node is ready", lambda: other.iaas.nodes.get("n1")["state"] == "ready")
        eventually("the machine is known", lambda: other.iaas.machines.get("web")["state"] == "running")
        other.iaas.machines.wish("web", "stopped", LIMIT_S)
        other.iaas.machines.wish("web", "running", LIMIT_S)
        assert "younger" in {each["subject"] for each in other.iaas.audit()}
        world = FakeWorld.at(hyper.data_dir / "drivers" / "fake")
        assert {each.id: each.powered for each in world.machines()} == {"web": True, "younger": True}


def test_a_controller_whose_database_is_lost_or_empty_does_not_begin_anew(iaas: Service) -> None:
    iaas.serve()
    iaas.kill()
    lose(iaas.database)
    assert f"the database {iaas.database} of cloud " in iaas.refusal()
    assert not iaas.database.exists()
    iaas.database.touch()
    assert "is empty, nothing was changed" in iaas.refusal()
