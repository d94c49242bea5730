"""What the commands understand, what they start with, and what the shell offers: without any controller."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from garbi.hyper_api.vocabulary import ImageState, ImageType, NodeFailurePolicy, RestartPolicy, State
from garbi.iaas.cli import completion
from garbi.iaas.cli.adding import numbered
from garbi.iaas.cli.app import command_tree, run
from garbi.iaas.cli.completion import IaasCompleter
from garbi.iaas.cli.nodes import read_address, read_host_key
from garbi.iaas.cli.server import DEFAULT_URL
from garbi.iaas.model.machine import Strategy
from garbi.iaas.model.node import NodeState
from garbi.iaas.model.query import IMAGE_FILTERS, MACHINE_FILTERS, NODE_FILTERS
from garbi.iaas_api import client
from garbi.iaas_api.client import IaasClient
from garbi.terminal.moments import age_text

NOWHERE = "http://127.0.0.1:1"
CONTRACT = """
serve dev node-add node-rm node-ls node-show node-drain node-undrain node-confirm-dead img-add img-ls img-rm
vm-add vm-start vm-stop vm-rm vm-show vm-log vm-ls audit doctor events exit
"""
OPTIONS = {
    "serve": "--host --port --data-dir --database",
    "node add": "--ssh-user --ssh-port --ssh-key --no-provision",
    "img add": "--type",
    "vm add": "-t -m -c -n -p --name --on-node-failure --explain --no-wait",
}
LISTS = ("node ls", "img ls", "vm ls")


def command_of(words: str) -> Any:
    command: Any = command_tree
    for word in words.split():
        command = command.commands[word]
    return command


def options_of(words: str) -> set[str]:
    return {option for each in command_of(words).params for option in each.opts}


@pytest.mark.parametrize("words", [each.replace("-", " ", 1) for each in CONTRACT.split()])
def test_every_command_of_the_contract_is_there(words: str) -> None:
    assert command_of(words.replace("confirm dead", "confirm-dead")) is not None


@pytest.mark.parametrize("words", OPTIONS)
def test_every_option_of_the_contract_is_there(words: str) -> None:
    assert set(OPTIONS[words].split()) <= options_of(words)


@pytest.mark.parametrize("words", LISTS)
def test_every_list_can_be_filtered_and_printed_for_programs(words: str) -> None:
    assert {"-o", "--output", "-q", "--quiet", "filters"} <= options_of(words)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["vm", "ls"], 3, "iaas serve"),
        (["node", "ls"], 3, "iaas serve"),
        (["nonsense"], 2, "No such command"),
        (["vm", "nonsense"], 2, "No such command"),
        (["vm"], 2, "Usage"),
        (["vm", "add"], 2, "Missing argument"),
        (["vm", "add", "tiny", "-p", "8080:80"], 2, "-p needs -n"),
        (["vm", "add", "tiny", "-n", "n1", "-p", "x"], 2, "nodePort:vmPort"),
        (["vm", "add", "tiny", "-n", "n1", "-p", "0:80"], 2, "nodePort:vmPort"),
        (["vm", "add", "tiny", "-m", "much"], 2, "not a valid integer"),
        (["vm", "add", "tiny", "--label", "x"], 2, "key=value"),
        (["vm", "add", "tiny", "--require", "=x"], 2, "key=value"),
        (["vm", "add", "tiny", "--apart", "app"], 2, "--label app="),
        (["vm", "add", "tiny", "--strategy", "luck"], 2, "spread"),
        (["vm", "add", "tiny", "--on-node-failure", "panic"], 2, "recreate"),
        (["vm", "add", "tiny", "--count", "0"], 2, "1<=x"),
        (["vm", "add", "tiny", "--count", "2", "-i", "web"], 2, "--count excludes"),
        (["vm", "add", "tiny", "--count", "2", "-n", "n", "-p", "1:1"], 2, "--count excludes"),
        (["vm", "ls", "running"], 2, "key=value"),
        (["vm", "ls", "-o", "xml"], 2, "table"),
        (["vm", "show", ".."], 1, "no machine"),
        (["vm", "show", "a/b"], 1, "no machine"),
        (["node", "show", ""], 1, "no node"),
        (["node", "add", "n1"], 2, "Missing argument"),
        (["node", "add", "n1", "10.0.0.5"], 2, "addr:port"),
        (["node", "add", "n1", "10.0.0.5:0"], 2, "addr:port"),
        (["node", "add", "n1", "10.0.0.5:70000"], 2, "addr:port"),
        (["node", "add", "n1", "-oProxyCommand=x:22"], 2, "No such option"),
        (["node", "add", "n1", "10.0.0.5:8081", "--ssh-port", "0"], 2, "1<=x<=65535"),
        (["node", "add", "n1", "10.0.0.5:8081", "--ssh-host-key", "/nonexistent"], 2, "SHA256"),
        (["node", "add", "n1", "10.0.0.5:8081", "--token-file", "/x"], 2, "--no-provision"),
        (["node", "add", "n1", "10.0.0.5:8081", "--no-provision", "--ssh-user", "x"], 2, "exclude"),
        (["node", "add", "n1", "10.0.0.5:8081", "--no-provision"], 1, "--token-file"),
        (["node", "add", "n1", "10.0.0.5:8081", "--live-restore", "--witness"], 2, "excludes"),
        (["node", "add", "n1", "10.0.0.5:8081", "--no-provision", "--token-file", "/nonexistent"], 1, "cannot be read"),
        (["img", "add", "x", "/nonexistent/file"], 1, "cannot be read"),
        (["img", "add", "x", "/dev/null"], 1, "not a file"),
        (["img", "add", "x", "/proc"], 1, "/proc"),
        (["img", "add", "x", "f", "--type", "iso"], 2, "qcow2"),
        (["serve", "--host", "0.0.0.0"], 1, "certificates"),
        (["serve", "--host", "::"], 1, "certificates"),
        (["serve", "--port", "70000"], 2, "65535"),
        (["--url", "nonsense", "vm", "ls"], 1, "http://host:port"),
        (["--url", "ftp://x", "vm", "ls"], 1, "http://host:port"),
        (["--token-file", "/nonexistent", "vm", "ls"], 1, "cannot be read"),
    ],
)
def test_an_error_is_lines_on_stderr_and_an_exit_status(
    arguments: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = [] if arguments[0] == "--url" else ["--url", NOWHERE]
    assert run([*url, *arguments]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize("arguments", [["exit"], ["--help"], ["vm", "add", "--help"], ["--version"]])
def test_what_needs_no_server_succeeds(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0
    assert capsys.readouterr().err == ""


def test_a_client_command_imports_nothing_that_is_for_servers() -> None:
    watched = (
        "pydantic", "fastapi", "starlette", "uvicorn", "httpx", "sqlalchemy", "alembic", "docker", "libvirt", "rich",
        "prompt_toolkit", "ansible", "ansible_runner", "tarfile", "requests", "asyncio",
        "garbi.iaas.store", "garbi.iaas.controller",
    )  # fmt: skip
    code = (
        "import sys; from garbi.iaas.cli.app import run; run(['--url', 'http://127.0.0.1:1', 'vm', 'ls']);"
        f"print([name for name in {watched!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_and_the_client_agree_with_the_model() -> None:
    assert client.DEFAULT_URL == DEFAULT_URL
    assert set(completion.MACHINE_STATES) == set(State)
    assert set(completion.NODE_STATES) == set(NodeState)
    assert set(completion.IMAGE_STATES) == set(ImageState)
    assert set(completion.IMAGE_TYPES) == set(ImageType)
    assert set(completion.CHOICES["--strategy"]) == set(Strategy)
    assert set(completion.CHOICES["--on-node-failure"]) == set(NodeFailurePolicy)
    assert set(completion.CHOICES["--restart"]) == set(RestartPolicy)
    allowed = {"node ls": NODE_FILTERS, "img ls": IMAGE_FILTERS, "vm ls": MACHINE_FILTERS}
    for words, (offered, _) in completion.FILTERS.items():
        assert {filter.rstrip("=") for filter in offered} <= set(allowed[words])


def test_the_choices_of_the_shell_are_those_of_the_commands() -> None:
    for option in command_of("vm add").params:
        if isinstance(option.type, click.Choice) and option.name != "output":
            assert tuple(option.type.choices) == completion.CHOICES[option.opts[0]]


def test_what_takes_no_value_is_known_to_the_shell_as_a_flag() -> None:
    flags = {
        name
        for group in ("node", "img", "vm")
        for command in command_of(group).commands.values()
        for option in command.params
        if getattr(option, "is_flag", False)
        for name in option.opts
    }
    assert flags <= set(completion.FLAGS)


@pytest.mark.parametrize(
    ("typed", "current", "offer"),
    [
        ([], "", "node"),
        ([], "", "help"),
        (["node"], "", "confirm-dead"),
        (["img"], "", "add"),
        (["vm", "add"], "-", "--explain"),
        (["vm", "add", "tiny", "-p"], "", None),
        (["vm", "add", "tiny", "--strategy"], "", "pack"),
        (["img", "add", "x", "f", "-t"], "", "qcow2"),
        (["vm", "ls", "-o"], "", "yaml"),
        (["vm", "ls"], "", "node="),
        (["vm", "ls"], "state=", "state=running"),
        (["node", "ls"], "state=", "state=unreachable"),
        (["vm", "start"], "", None),
    ],
)
def test_the_shell_offers_what_may_stand_there(typed: list[str], current: str, offer: str | None) -> None:
    offers = list(IaasCompleter(IaasClient(NOWHERE), command_tree).offers(typed, current))
    assert offer in offers if offer is not None else not offers


@pytest.mark.parametrize("text", ["10.0.0.5:8081", "host-1.example:1", "[::1]:8081", "localhost:65535"])
def test_an_address_is_read_as_the_contract_writes_it(text: str) -> None:
    assert read_address(text) == text


@pytest.mark.parametrize(
    "text", ["", ":8081", "host:", "ho st:1", "host:1\n", "-x:1", "http://host:1", "host:٨", "::1:80", "a@b:1"]
)
def test_what_is_no_address_is_wrong_usage(text: str) -> None:
    with pytest.raises(click.BadParameter):
        read_address(text)


def test_a_host_key_may_be_a_fingerprint_a_key_or_a_file_with_one(tmp_path: Path) -> None:
    file = tmp_path / "host.pub"
    file.write_text("# of the new host\nssh-ed25519 AAAA root@host\n")
    assert read_host_key("SHA256:abc") == "SHA256:abc"
    assert read_host_key("ssh-ed25519 AAAA") == "ssh-ed25519 AAAA"
    assert read_host_key(str(file)) == "ssh-ed25519 AAAA root@host"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (0, "0 s"), (59.4, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (2 * 86400, "2 d")],
)
def test_an_age_is_for_people(seconds: float, text: str) -> None:
    assert age_text(seconds) == text


def test_many_machines_have_numbers_in_their_names_if_they_have_names() -> None:
    assert [each["name"] for each in numbered({"image": "x", "name": "web"}, 3)] == ["web-1", "web-2", "web-3"]
    assert numbered({"image": "x"}, 2) == [{"image": "x"}] * 2


def test_help_says_what_every_option_is_for() -> None:
    bare = []
    for name, group in command_tree.commands.items():
        for command in getattr(group, "commands", {name: group}).values():
            bare += [
                (command.name, each.name)
                for each in command.params
                if each.param_type_name == "option" and not each.help
            ]
            assert re.search(r"\w", command.help or ""), command.name
    assert not bare
