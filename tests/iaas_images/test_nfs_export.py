"""What `iaas doctor` says of the NFS server: each dangerous option is found in both servers' words, a good export passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from garbi.base.errors import InvalidField
from garbi.iaas.imagestore.nfs_export import (
    Export,
    exports_line,
    find_flaws,
    ganesha_export,
    read_exportfs,
    read_ganesha,
)

IMAGES = Path("/var/lib/garbi/iaas/images")
NODES = ["10.0.0.5", "10.0.0.6"]
GOOD = "sync,wdelay,hide,subtree_check,sec=sys,ro,secure,root_squash,all_squash"


def exportfs(*clients: tuple[str, str], path: Path = IMAGES) -> list[Export]:
    return read_exportfs("".join(f"{path}\n\t\t{client}({options})\n" for client, options in clients))


def problems(exports: list[Export], nodes: list[str] | None = None) -> str:
    return "; ".join(flaw.problem for flaw in find_flaws(exports, IMAGES, NODES if nodes is None else nodes))


def test_a_good_export_has_no_flaw() -> None:
    assert find_flaws(exportfs(*((node, GOOD) for node in NODES)), IMAGES, NODES) == []
    assert find_flaws(exportfs(("10.0.0.0/29", GOOD)), IMAGES, NODES) == []


@pytest.mark.parametrize(
    ("option", "instead", "words"),
    [
        ("ro", "rw", "can be written"),
        ("root_squash", "no_root_squash", "no_root_squash"),
        ("all_squash", "no_all_squash", "not all_squash"),
        ("secure", "insecure", "insecure"),
    ],
)
def test_each_dangerous_option_is_named(option: str, instead: str, words: str) -> None:
    options = ",".join(instead if each == option else each for each in GOOD.split(","))
    found = find_flaws(exportfs((NODES[0], GOOD), (NODES[1], options)), IMAGES, NODES)
    assert [words in flaw.problem and NODES[1] in flaw.problem for flaw in found] == [True]
    assert exports_line(IMAGES, NODES) in found[0].mend


@pytest.mark.parametrize("client", ["<world>", "*", "0.0.0.0/0", "::/0", "*.example.org"])
def test_an_export_to_the_world_is_refused(client: str) -> None:
    assert "to the world" in problems(exportfs((client, GOOD)))


def test_strangers_and_nodes_that_are_left_out_are_named() -> None:
    found = problems(exportfs((NODES[0], GOOD), ("10.0.0.99", GOOD)))
    assert "to 10.0.0.99: no node has that address" in found
    assert f"{NODES[1]} is a node, and may not read" in found


def test_an_export_of_more_than_the_images_is_refused() -> None:
    assert "with it more than the images" in problems(exportfs((NODES[0], GOOD), path=IMAGES.parent), NODES[:1])


def test_no_export_at_all_is_a_flaw_and_another_directory_is_none_of_our_business() -> None:
    assert "is not exported" in problems([])
    assert "is not exported" in problems(exportfs(("*", "rw,no_root_squash"), path=Path("/srv/other")))


def test_a_short_path_has_its_client_on_the_same_line() -> None:
    found = read_exportfs(f"/srv/a \t10.0.0.5({GOOD})\n/srv/b\\040c    <world>(rw,insecure,no_root_squash)\n")
    assert found == [
        Export("/srv/a", "10.0.0.5", True, True, True, True),
        Export("/srv/b c", "<world>", False, False, False, False),
    ]


def test_the_recommended_exports_pass() -> None:
    line = exports_line(IMAGES, NODES)
    assert line == f"{IMAGES} " + " ".join(
        f"{node}(ro,sync,secure,root_squash,all_squash,subtree_check)" for node in NODES
    )
    assert find_flaws(read_exportfs(line.replace(" ", "\n\t\t").replace(")\n", ")\n")), IMAGES, NODES) == []
    assert find_flaws(read_ganesha(ganesha_export(IMAGES, NODES)), IMAGES, NODES) == []


def test_without_nodes_the_line_says_what_to_put_there() -> None:
    assert exports_line(IMAGES, []).startswith(f"{IMAGES} ADDRESS-OF-A-NODE(ro,")


@pytest.mark.parametrize("node", ["10.0.0.5(rw)", "a b", "*", "x\n/ *(rw)", "", "-x", "a,b", "host}"])
def test_nothing_but_an_address_gets_into_a_configuration(node: str) -> None:
    for write in (exports_line, ganesha_export):
        with pytest.raises(InvalidField):
            write(IMAGES, [node])


GANESHA = """
# served by NFS-Ganesha { not a block }
EXPORT_DEFAULTS { Squash = No_Root_Squash; PrivilegedPort = true; }
NFS_CORE_PARAM { NFS_Port = 2049; }
EXPORT {
    Export_Id = 7; Path = "/var/lib/garbi/iaas/images"; Pseudo = /images;
    Access_Type = RW;   # to everybody
    FSAL { Name = VFS; }
    CLIENT { Clients = 10.0.0.5, 10.0.0.6; Access_Type = RO; Squash = all_squash; PrivilegedPort = false; }
}
"""


def test_a_configuration_of_ganesha_is_read_with_its_defaults_and_clients() -> None:
    assert read_ganesha(GANESHA) == [
        Export(str(IMAGES), "*", False, False, False, True),
        Export(str(IMAGES), "10.0.0.5", True, True, True, False),
        Export(str(IMAGES), "10.0.0.6", True, True, True, False),
    ]
    found = problems(read_ganesha(GANESHA))
    assert all(words in found for words in ("to the world", "can be written", "no_root_squash", "insecure"))


@pytest.mark.parametrize("text", ["", "EXPORT {", "}}}{{{", "EXPORT { Path = ", '"', "a = b;", "\0" * 100, "{" * 500])
def test_a_broken_configuration_is_no_reason_to_fail(text: str) -> None:
    assert all(isinstance(each, Export) for each in read_ganesha(text))
