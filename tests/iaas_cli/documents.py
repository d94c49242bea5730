"""Documents as a controller answers them, for servers that are told what to answer."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]
THEN = "2026-11-21T10:00:00.000000Z"


def machine(id: str = "web", **changes: Any) -> Document:
    """A machine that runs, but for what is changed."""
    return {
        "id": id,
        "name": id,
        "type": "fake",
        "image": "tiny",
        "image_sha256": "",
        "mem": 256,
        "cpus": 1,
        "disk": 0,
        "node": "n1",
        "ports": [],
        "address": None,
        "labels": {},
        "require": {},
        "apart": None,
        "state": "running",
        "wish": "running",
        "settled": True,
        "reason": "",
        "on_node_failure": "recreate",
        "restart": "on-failure",
        "operation": None,
        "created_at": THEN,
        "updated_at": THEN,
    } | changes


def node(name: str = "n1", **changes: Any) -> Document:
    """A node that is ready, but for what is changed."""
    return {
        "name": name,
        "address": "10.0.0.5:8081",
        "state": "ready",
        "reason": "",
        "capacity": {"mem": 4096, "cpus": 4, "disk": 1000},
        "limit": {"mem": 4096, "cpus": 64, "disk": 4000},
        "use": {"mem": 512, "cpus": 2, "disk": 0},
        "load": {"load1": 0.1, "mem_used": 100},
        "machines": 2,
        "draining": False,
        "architecture": "x86_64",
        "drivers": [
            {"name": "docker", "available": True, "version": "20.10", "reason": ""},
            {"name": "libvirt", "available": False, "version": "", "reason": "no socket"},
        ],
        "versions": {"garbi": "0.1.0"},
        "labels": {},
        "provision": True,
        "ssh": {"user": "root", "port": 22, "key_file": None},
        "operation": None,
        "seen_at": THEN,
        "created_at": THEN,
        "updated_at": THEN,
    } | changes


def operation(**changes: Any) -> Document:
    """An operation that is half done, but for what is changed."""
    return {
        "id": "op1",
        "kind": "node-add",
        "target": "n1",
        "state": "running",
        "step": 6,
        "steps": 12,
        "progress": 0.5,
        "message": "install packages",
        "error": None,
        "created_at": THEN,
        "updated_at": THEN,
        "finished_at": None,
    } | changes


def image(name: str = "tiny", **changes: Any) -> Document:
    """An image that is there, but for what is changed."""
    return {
        "name": name,
        "type": "raw",
        "size": 10,
        "virtual_size": 10,
        "sha256": "0" * 64,
        "state": "active",
        "reason": "",
        "created_at": THEN,
    } | changes


def problem(code: str, status: int, detail: str, **extra: Any) -> tuple[int, Document]:
    """An answer that is an error."""
    return status, {
        "type": f"urn:garbi:error:{code}",
        "title": code,
        "status": status,
        "detail": detail,
        "code": code,
    } | extra
