"""A node as a fence is given it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from garbi.iaas.model.node import Amounts, Load, Node, NodeState, Overcommit, Ssh


def a_node(**other: Any) -> Node:
    """A node that was provisioned and does not answer; `other` are fields that differ."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    fields: dict[str, Any] = {
        "name": "n1", "host": "192.0.2.1", "port": 8081, "provision": True, "ssh": Ssh(), "labels": {},
        "overcommit": Overcommit(), "state": NodeState.UNREACHABLE, "reason": "silence", "draining": False,
        "has": Amounts(), "limit": Amounts(), "reserved": Amounts(), "load": Load(), "architecture": "x86_64", "drivers": (),
        "versions": {}, "cluster_id": "", "boot_id": "", "epoch": 1, "operation": None, "seen_at": None, "created_at": at,
        "updated_at": at, "lease": 3,
    }  # fmt: skip
    return Node(**fields | other)
