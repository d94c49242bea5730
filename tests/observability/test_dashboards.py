"""The dashboard and the alerts ask for nothing that a real controller and a real agent do not tell."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.observability.conftest import eventually

from garbi.base.errors import NothingFits
from garbi.devcloud import DevCloud

DOCS = Path(__file__).parents[2] / "docs"
NAME = re.compile(r"\bgarbi_[a-z_]+\b")
LABELLED = re.compile(r"(garbi_[a-z_]+)\{([^}]*)\}")
GIVEN_BY_PROMETHEUS = {"instance", "job", "le"}


def scrape(url: str, token: str) -> str:
    request = urllib.request.Request(f"{url}/metrics", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        content: bytes = answer.read()
    return content.decode()


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    """Each series that a controller and an agent of a small cloud tell, with its labels."""
    with DevCloud(nodes=3, audit_period_s=0.5) as cloud:
        cloud.client.machines.add({"image": "any", "type": "fake", "mem": 16, "id": "web"})
        with pytest.raises(NothingFits):
            cloud.client.machines.add({"image": "any", "type": "fake", "mem": 10**6})
        node = next(iter(cloud.nodes.values()))
        services = (cloud.controller, node.agent)
        eventually("both have audited themselves", lambda: all(each.auditing.last for each in services))
        eventually("all was looked at once", lambda: node.agent.converger.looked_s_ago() is not None)
        eventually("a lease is there", lambda: bool(node.agent.leases.all()))
        text = scrape(cloud.url, cloud.controller.secret) + scrape(f"http://{node.address}", node.agent.secret)
    series: dict[str, set[str]] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE"):  # some have no value yet
            _, _, name, kind = line.split()
            if kind in ("counter", "gauge"):
                series.setdefault(name, set())
        elif not line.startswith("#"):
            name, labels = re.match(r"([a-z_]+)(?:\{(.*)\})? ", line).groups()  # type: ignore[union-attr]
            series.setdefault(name, set()).update(re.findall(r'([a-z_]+)="', labels or ""))
    return {name: labels for name, labels in series.items() if not name.endswith("_created")}


def queries(panels: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for panel in panels:
        for target in panel.get("targets", []):
            yield target["expr"], target["legendFormat"]


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DOCS / "grafana/garbi.json").read_text())
    return document


@pytest.fixture(scope="module")
def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DOCS / "grafana/alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_the_dashboard_has_what_grafana_needs(dashboard: dict[str, Any]) -> None:
    assert dashboard["schemaVersion"] >= 36
    assert (dashboard["title"], dashboard["uid"], dashboard["id"]) == ("Garbi", "garbi", None)
    (variable,) = dashboard["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    rows = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert rows == ["Nodes", "Machines", "Repair", "Audit", "Leases and hosts", "API"]
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0


def test_no_two_panels_are_in_one_place(dashboard: dict[str, Any]) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & mine, panel["title"]
        cells |= mine


def test_every_query_of_the_dashboard_is_answered(dashboard: dict[str, Any], told: dict[str, set[str]]) -> None:
    for expression, legend in queries(dashboard["panels"]):
        check(expression, told)
        labels = set().union(*(told[name] for name in NAME.findall(expression))) | GIVEN_BY_PROMETHEUS
        assert set(re.findall(r"{{([a-z_]+)}}", legend)) <= labels, (expression, legend)


def test_every_alert_is_answered_and_says_what_to_do(rules: list[dict[str, Any]], told: dict[str, set[str]]) -> None:
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        check(rule["expr"], told)
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description"}
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}


def check(expression: str, told: dict[str, set[str]]) -> None:
    """Every series and every label of a query is there, and what only grows is never looked at as it stands."""
    for name in NAME.findall(expression):
        assert name in told, f"nobody tells {name}: {expression}"
        if name.endswith(("_total", "_bucket", "_sum", "_count")):
            assert re.search(rf"(rate|increase)\({name}", expression), expression
    for name, labels in LABELLED.findall(expression):
        assert set(re.findall(r"([a-z_]+)(?:=~|!~|!=|=)", labels)) <= told[name] | GIVEN_BY_PROMETHEUS, expression
    assert expression.count("(") == expression.count(")")


def test_what_is_told_is_shown(dashboard: dict[str, Any], told: dict[str, set[str]]) -> None:
    shown = {name for expression, _ in queries(dashboard["panels"]) for name in NAME.findall(expression)}
    known = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in told}
    missing = {name for name in known if name not in shown and not any(each.startswith(name) for each in shown)}
    assert missing == set()


def test_the_page_tells_of_every_series_and_every_alert(rules: list[dict[str, Any]], told: dict[str, set[str]]) -> None:
    page = (DOCS / "monitoring.md").read_text()
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in told} - {
        "garbi_iaas_http_request_seconds"
    }
    documented = set(re.findall(r"`(garbi_[a-z_]+)", page))
    assert {name for name in families if name not in documented and not name.endswith("_http_request_seconds")} == set()
    assert [rule["alert"] for rule in rules if f"`{rule['alert']}`" not in page] == []


def test_names_keep_to_the_conventions(told: dict[str, set[str]]) -> None:
    for name, labels in told.items():
        assert name.startswith(("garbi_iaas_", "garbi_hyper_")), name
        assert not labels & {"id", "machine", "machine_id", "name"}, f"{name} would have a series for each machine"
        assert not re.search(r"_(ms|kb|mib|minutes|percent)(_|$)", name), f"{name} is not in base units"
