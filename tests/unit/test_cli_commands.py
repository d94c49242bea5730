"""What the commands understand, what they start with, and what the shell offers: without any server."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import click
import pytest

from garbi.base.errors import FinalError, InvalidField
from garbi.content.guessing import TYPES, guess_type
from garbi.hyper.cli.app import command_tree, run
from garbi.hyper.cli.completion import STATES, HyperCompleter
from garbi.hyper.cli.server import DEFAULT_URL
from garbi.hyper.model.image import ImageType
from garbi.hyper.model.machine import RestartPolicy, State
from garbi.hyper.model.query import MACHINE_FILTERS
from garbi.hyper_api import client
from garbi.hyper_api.client import HyperClient
from garbi.terminal.arguments import read_pair, read_port
from garbi.terminal.completion import split_words
from garbi.terminal.identity import is_loopback
from garbi.terminal.machines import with_cpu

NOWHERE = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("8080:80", {"node_port": 8080, "machine_port": 80, "protocol": "tcp"}),
        ("53:53/udp", {"node_port": 53, "machine_port": 53, "protocol": "udp"}),
        ("1:65535/tcp", {"node_port": 1, "machine_port": 65535, "protocol": "tcp"}),
    ],
)
def test_a_port_is_read_as_the_contract_writes_it(text: str, port: dict[str, Any]) -> None:
    assert read_port(text) == port


@pytest.mark.parametrize(
    "text", ["80", "80:", ":80", "0:80", "80:65536", "80:80/sctp", "80:80\n", "٨٠:80", "a:b", "-1:80"]
)
def test_what_is_no_port_is_wrong_usage(text: str) -> None:
    with pytest.raises(click.BadParameter):
        read_port(text)


def test_a_pair_may_have_an_empty_value_and_equals_signs_in_it() -> None:
    assert read_pair("k=", "--label") == ("k", "")
    assert read_pair("k=a=b", "--label") == ("k", "a=b")
    with pytest.raises(click.BadParameter):
        read_pair("=v", "--label")


@pytest.mark.parametrize(
    ("host", "safe"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("127.3.2.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.0.2.1", False),
        ("example.org", False),
    ],
)
def test_an_address_that_others_reach_is_told_from_one_that_they_do_not(host: str, safe: bool) -> None:
    assert is_loopback(host) is safe


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["list"], 3, "hyper serve"),
        (["nonsense"], 2, "No such command"),
        (["add"], 2, "Missing argument"),
        (["add", "tiny", "-p", "x"], 2, "hostPort:machinePort"),
        (["add", "tiny", "-m", "much"], 2, "not a valid integer"),
        (["add", "tiny", "--label", "x"], 2, "key=value"),
        (["list", "running"], 2, "key=value"),
        (["list", "-o", "xml"], 2, "table"),
        (["images"], 2, "Usage"),
        (["images", "add", "x", "/nonexistent/file"], 1, "cannot be read"),
        (["images", "build", "huge"], 2, "tiny"),
        (["serve", "--host", "0.0.0.0"], 1, "in the clear"),
        (["serve", "--port", "70000"], 2, "65535"),
        (["--url", "nonsense", "list"], 1, "http://host:port"),
        (["--url", "ftp://x", "list"], 1, "http://host:port"),
        (["show", ".."], 1, "no machine"),
        (["show", "a/b"], 1, "no machine"),
        (["show", ""], 1, "no machine"),
    ],
)
def test_an_error_is_one_line_on_stderr_and_an_exit_status(
    arguments: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = [] if arguments[0] == "--url" else ["--url", NOWHERE]
    assert run([*url, *arguments]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize("arguments", [["exit"], ["--help"], ["add", "--help"], ["--version"]])
def test_what_needs_no_server_succeeds(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0
    assert capsys.readouterr().err == ""


def test_a_client_command_imports_nothing_that_is_for_servers() -> None:
    watched = (
        "pydantic",
        "fastapi",
        "starlette",
        "uvicorn",
        "httpx",
        "sqlalchemy",
        "docker",
        "libvirt",
        "rich",
        "prompt_toolkit",
        "typer",
        "requests",
        "asyncio",
    )
    code = (
        "import sys; from garbi.hyper.cli.app import run; run(['--url', 'http://127.0.0.1:1', 'list']);"
        f"print([name for name in {watched!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_garbage_is_collected_while_a_command_runs_but_not_what_it_imports() -> None:
    code = (
        "import gc, sys; from garbi.terminal.process import run_process\n"
        "seen = []\n"
        "def load(): seen.append(gc.isenabled()); return run\n"
        "def run(arguments): seen.append(gc.isenabled()); return len(arguments)\n"
        "print(run_process(load), seen)"
    )
    done = subprocess.run([sys.executable, "-c", code, "a", "b"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2 [False, True]"


def test_the_command_line_and_the_client_agree_with_the_model() -> None:
    assert client.DEFAULT_URL == DEFAULT_URL
    assert set(STATES) == set(State)
    assert set(TYPES) == set(ImageType)
    completer = HyperCompleter(HyperClient(NOWHERE), command_tree)
    offered = {filter.rstrip("=") for filter in completer.offers(["list"], "")}
    assert offered <= set(MACHINE_FILTERS)
    assert set(completer.offers(["add", "any", "--restart"], "")) == set(RestartPolicy)


@pytest.mark.parametrize(
    ("typed", "current", "offer"),
    [
        ([], "", "images"),
        ([], "", "help"),
        (["images"], "", "build"),
        (["images", "build"], "", "tiny"),
        (["add"], "-", "--label"),
        (["add", "tiny", "-p"], "", None),
        (["list", "-o"], "", "yaml"),
        (["list"], "", "state="),
        (["list"], "state=", "state=running"),
        (["start"], "", None),
    ],
)
def test_the_shell_offers_what_may_stand_there(typed: list[str], current: str, offer: str | None) -> None:
    offers = list(HyperCompleter(HyperClient(NOWHERE), command_tree).offers(typed, current))
    assert offer in offers if offer is not None else not offers


def test_the_words_of_a_line_end_at_the_cursor() -> None:
    assert split_words("list sta", "hyper") == ["list", "sta"]
    assert split_words("list ", "hyper") == ["list", ""]
    assert split_words("hyper list ", "hyper") == ["list", ""]
    assert split_words("", "hyper") == [""]
    assert split_words('add "open', "hyper") is None


def test_every_command_of_the_contract_is_there() -> None:
    listed = [
        "serve",
        "images",
        "add",
        "start",
        "stop",
        "rm",
        "list",
        "show",
        "log",
        "drivers",
        "doctor",
        "audit",
        "exit",
    ]
    assert set(listed) <= command_tree.commands.keys()
    images: Any = command_tree.commands["images"]
    assert images.commands.keys() == {"ls", "build", "add", "rm"}


def test_the_share_of_a_processor_is_of_the_time_between() -> None:
    assert with_cpu(10.0, {"cpu_seconds": 1.0}, 12.0, {"cpu_seconds": 2.0})["cpu_percent"] == 50.0


def tar_of(path: Path, *names: str, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return path


def test_the_type_of_an_image_is_guessed_from_its_content(tmp_path: Path) -> None:
    qcow2 = tmp_path / "misnamed.img"
    qcow2.write_bytes(b"QFI\xfb" + bytes(600))
    boot_sector = tmp_path / "disk.img"
    boot_sector.write_bytes(bytes(510) + b"\x55\xaa" + bytes(512))
    raw = tmp_path / "data.raw"
    raw.write_bytes(bytes(1024))
    assert guess_type(qcow2) == "qcow2"
    assert guess_type(boot_sector) == "raw"
    assert guess_type(raw) == "raw"
    assert guess_type(tar_of(tmp_path / "a.tar", "etc/passwd", "bin/sh")) == "rootfs"
    assert guess_type(tar_of(tmp_path / "b.tar", "x/layer.tar", "manifest.json")) == "docker"
    assert guess_type(tar_of(tmp_path / "c.tar.gz", "./oci-layout", mode="w:gz")) == "docker"


def test_a_type_that_cannot_be_guessed_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = tmp_path / "thing"
    unknown.write_bytes(b"hello")
    assert guess_type(unknown) is None
    assert run(["--url", NOWHERE, "images", "add", "thing", str(unknown)]) == 1
    assert "--type" in capsys.readouterr().err
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(b"no tar")
    with pytest.raises(InvalidField):
        guess_type(broken)
    with pytest.raises(FinalError):
        guess_type(tmp_path)
