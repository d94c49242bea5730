"""Registries for the tests of pulling: one of a few lines, and Debian's docker-registry where it is installed."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.free_ports import free_port
from tests.host.docker_archives import digest
from tests.host.docker_engines import eventually

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass
class Registry:
    """A registry on loopback that images can be put into."""

    address: str
    kept: dict[str, bytes] = field(default_factory=dict)
    """What the registry of a few lines keeps, by path; Debian's keeps its own."""

    def push(self, path: str, tag: str, config: bytes, layers: list[bytes]) -> str:
        """Put an image in; return the sha256 of its manifest."""
        for blob in (config, *layers):
            self._put_blob(path, blob)
        described = [{"mediaType": "", "digest": digest(blob), "size": len(blob)} for blob in (config, *layers)]
        described[0]["mediaType"] = "application/vnd.docker.container.image.v1+json"
        for layer in described[1:]:
            layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar"
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
        content = json.dumps(manifest).encode()
        for reference in (tag, digest(content)):
            self._put(f"/v2/{path}/manifests/{reference}", content, MANIFEST)
        return digest(content).removeprefix("sha256:")

    def _put_blob(self, path: str, blob: bytes) -> None:
        if self.kept:
            self.kept[f"/v2/{path}/blobs/{digest(blob)}"] = blob
            return
        connection = http.client.HTTPConnection(self.address, timeout=60)
        connection.request("POST", f"/v2/{path}/blobs/uploads/")
        started = connection.getresponse()
        started.read()
        where = (started.getheader("Location") or "").partition(self.address)[2]
        self._put(f"{where}&digest={digest(blob)}", blob, "application/octet-stream")

    def _put(self, path: str, content: bytes, media_type: str) -> None:
        if self.kept:
            self.kept[path] = content
            return
        connection = http.client.HTTPConnection(self.address, timeout=60)
        connection.request("PUT", path, content, {"Content-Type": media_type})
        answer = connection.getresponse()
        assert answer.status == 201, answer.read()


@contextmanager
def small_registry() -> Iterator[Registry]:
    """A registry that answers just what an engine asks."""
    registry = Registry("", {"/v2/": b"{}"})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = registry.kept.get(self.path)
            self.send_response(404 if content is None else 200)
            content = (
                content if content is not None else b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}'
            )
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", MANIFEST if "/manifests/" in self.path else "application/octet-stream")
            self.send_header("Docker-Content-Digest", digest(content))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815 - the server looks for this name

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        registry.address = f"127.0.0.1:{server.server_address[1]}"
        try:
            yield registry
        finally:
            server.shutdown()


@contextmanager
def debian_registry(directory: Path) -> Iterator[Registry]:
    """Debian's docker-registry, with its files in the directory."""
    port = free_port()
    settings = directory / "registry.yml"
    storage = {"filesystem": {"rootdirectory": str(directory / "registry")}}
    settings.write_text(json.dumps({"version": 0.1, "storage": storage, "http": {"addr": f"127.0.0.1:{port}"}}))
    command = ["docker-registry", "serve", str(settings)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            registry = Registry(f"127.0.0.1:{port}")
            eventually("docker-registry answers", lambda: _answers(registry.address))
            yield registry
        finally:
            process.terminate()


def registries() -> list[str]:
    """The registries that there are on this host."""
    return ["small", *(["debian"] if shutil.which("docker-registry") else [])]


def _answers(address: str) -> bool:
    try:
        connection = http.client.HTTPConnection(address, timeout=60)
        connection.request("GET", "/v2/")
        return connection.getresponse().status == 200
    except OSError:
        return False
