"""What provisioning believes of users and of hosts, and what it says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from garbi.base.errors import InvalidField
from garbi.iaas.model.node import Ssh
from garbi.iaas.provisioning import Target, check, node_files, playbook
from garbi.iaas.provisioning.ssh import UnfitHost, options, read_answer
from garbi.iaas.provisioning.target import Share
from garbi.iaas.provisioning.wheels import LOCK, own_wheel
from garbi.iaas.provisioning.words import MAX_LENGTH, clean, of_result

ROOT = Path(__file__).parents[2]
TARGET = Target("n1", "10.0.0.5", 8081, Ssh(), "garbi_" + "t" * 43)
HOSTILE = [
    "",
    "-oProxyCommand=x",
    "{{7*7}}",
    "a b",
    "a\nb",
    "a\0b",
    "$(x)",
    "`x`",
    "a;b",
    "é",
    "a\u2028b",
    "x" * 300,
    "../x",
    "a'b",
]
ANSWER = {
    "architecture": "x86_64", "id": "debian", "like": "", "codename": "bookworm", "address": "10.0.0.5", "python": "3.11",
    "systemd": "yes", "root": "yes",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_no_hostile_text_is_a_name_an_address_a_user_or_a_key_of_a_host(text: str) -> None:
    for wrong in (
        replace(TARGET, name=text),
        replace(TARGET, host=text),
        replace(TARGET, ssh=Ssh(user=text)),
        replace(TARGET, ssh=Ssh(host_key=text)),
        replace(TARGET, ssh=Ssh(key_file=text)),
        replace(TARGET, image_use=text),
        replace(TARGET, share=f"nfs://{text}/x{text}"),
    ):
        with pytest.raises(InvalidField):
            check(wrong)


@pytest.mark.parametrize("host", ["10.0.0.5", "fd00::5", "node-1.lab.example", "localhost"])
def test_addresses_and_host_names_are_taken(host: str) -> None:
    check(replace(TARGET, host=host))


@pytest.mark.parametrize(("text", "share"), [
    ("", None), ("nfs://10.0.0.1/srv/images", Share("10.0.0.1", "/srv/images")), ("nas:/srv", Share("nas", "/srv")),
])  # fmt: skip
def test_a_share_is_a_server_and_a_path(text: str, share: Share | None) -> None:
    assert Share.parse(text) == share


@pytest.mark.parametrize("share", ["nas", "nas:srv", "nfs://nas", "nas:/srv,rw", "nas:/a/../b", "nas:/a b", "-o:/x"])
def test_a_share_that_could_be_read_as_more_is_refused(share: str) -> None:
    with pytest.raises(InvalidField):
        Share.parse(share)


def test_every_connection_checks_the_key_of_the_host() -> None:
    words = options(TARGET)
    assert "StrictHostKeyChecking=yes" in words
    assert "GlobalKnownHostsFile=/dev/null" in words
    assert not [word for word in words if "accept-new" in word or word.endswith("Checking=no")]


@pytest.mark.parametrize("text", ["a\nB=1", "a b", 'a"b', "a%n", "a$b", "é"])
def test_no_value_in_a_settings_file_of_a_node_becomes_another_setting(text: str) -> None:
    with pytest.raises(InvalidField):
        node_files.environment(replace(TARGET, name=text), "10.0.0.5")


def test_the_share_is_mounted_read_only_and_nothing_of_it_is_trusted() -> None:
    unit = node_files.mount_unit(Share("nas", "/srv"))
    [line] = [line for line in unit.splitlines() if line.startswith("Options=")]
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(line.removeprefix("Options=").split(","))


def test_what_a_fit_host_answers_is_taken_and_its_banner_is_not() -> None:
    host = read_answer("Welcome!\n" + answer() + "bye")
    assert (host.architecture, host.codename, host.address, host.python, host.sudo) == (
        "x86_64", "bookworm", "10.0.0.5", "3.11", False,
    )  # fmt: skip


def test_the_python_of_a_host_without_one_follows_from_its_release() -> None:
    assert read_answer(answer(python="", codename="trixie")).python == "3.13"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("root", "no: a password is required", "without a password"),
        ("id", "fedora", "Debian"),
        ("systemd", "", "systemd"),
        ("python", "3.9", "3.11 or later"),
        ("python", "{{ 3 }}", "no Python"),
        ("architecture", "riscv64; id", "processor"),
        ("address", "10.0.0.5 GARBI=1", "address"),
    ],
)
def test_a_host_that_is_not_fit_is_told_why(field: str, value: str, said: str) -> None:
    with pytest.raises(UnfitHost, match=said):
        read_answer(answer(**{field: value}))


def test_a_release_name_that_is_no_word_counts_as_none() -> None:
    assert read_answer(answer(codename="{{ lookup('pipe', 'id') }}")).codename == ""


def test_words_of_a_host_lose_what_steers_a_terminal_and_every_secret() -> None:
    said = clean("\x1b[31mbad\x1b[0m \x1b]0;title\x07 token garbi_x\r\n\u202eline\0", ("garbi_x",))
    assert said == "bad  token (hidden)\nline"


def test_long_words_keep_their_beginning_and_their_end() -> None:
    said = clean("begin " + "x" * 100_000 + " end")
    assert len(said) <= MAX_LENGTH + 3
    assert said.startswith("begin")
    assert said.endswith("end")


def test_a_failed_task_is_told_by_what_it_wrote() -> None:
    result = {"msg": "non-zero return code", "stderr": "No space left on device", "stdout": "", "rc": 1}
    assert of_result(result) == "No space left on device"
    assert of_result({}) == "it gave no reason"


def test_the_wheel_of_the_package_is_always_the_same_bytes() -> None:
    first = own_wheel()
    own_wheel.cache_clear()
    assert own_wheel() == first


def test_a_node_installs_what_the_lock_of_the_project_pins() -> None:
    assert (ROOT / "src/garbi/iaas/provisioning" / LOCK).read_text() == (ROOT / "requirements.txt").read_text()


@pytest.mark.parametrize("name", ["add_node", "remove_node"])
def test_the_tasks_of_a_playbook_are_counted_as_ansible_counts_them(name: str) -> None:
    import yaml

    folder = ROOT / "src/garbi/playbooks"
    [play] = yaml.safe_load((folder / f"{name}.yml").read_text())
    tasks = [
        task for role in play["roles"] for task in yaml.safe_load((folder / f"roles/{role}/tasks/main.yml").read_text())
    ]
    assert playbook.count_tasks(name) == len(tasks)
    assert play["gather_facts"] is False


def test_no_playbook_reads_what_other_hosts_or_facts_say() -> None:
    for path in (ROOT / "src/garbi/playbooks").rglob("*.yml"):
        text = path.read_text()
        assert not [word for word in ("hostvars", "ansible_facts", "lookup(", "shell:", "template:") if word in text], (
            path
        )


def answer(**other: str) -> str:
    return "".join(f"garbi {name} {value}\n" for name, value in (ANSWER | other).items())
