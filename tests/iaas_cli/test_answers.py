"""What commands ask of a controller and make of its answers; the controller is one that answers as it is told."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import yaml

from .conftest import Run, Stranger
from .documents import image, machine, node, operation, problem

VERDICTS = [
    {
        "node": "n1",
        "fits": False,
        "filter": "memory",
        "reason": "memory: 9 MiB asked for, 1 of 4 MiB free",
        "score": None,
    },
    {"node": "n2", "fits": False, "filter": "state", "reason": "the node is draining", "score": None},
]
NOTHING_FITS = problem(
    "nothing-fits", 409, "no node can take it: memory on 1 node, state draining on 1", verdicts=VERDICTS
)
HEX = "a" * 32


def test_a_machine_is_asked_for_with_all_that_was_said(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("POST /iaas/machines", (201, machine("web")))
    words = "vm add tiny -t fake -m 300 -c 2 -n n1 -p 8080:80 -p 53:53/udp --name shop --on-node-failure stay"
    more = "--label app=web --label tier= --require disk=ssd --apart app --strategy pack --restart no --no-start --full-copy"
    stranger.answers["POST /iaas/machines"][0][1]["state"] = "stopped"
    done = iaas(*words.split(), *more.split())
    assert (done.returncode, done.stdout, done.stderr) == (0, "web\n", "")
    assert stranger.bodies("POST") == [
        {
            "image": "tiny",
            "type": "fake",
            "mem": 300,
            "cpus": 2,
            "node": "n1",
            "ports": [
                {"node_port": 8080, "machine_port": 80, "protocol": "tcp"},
                {"node_port": 53, "machine_port": 53, "protocol": "udp"},
            ],
            "name": "shop",
            "on_node_failure": "stay",
            "labels": {"app": "web", "tier": ""},
            "require": {"disk": "ssd"},
            "apart": "app",
            "strategy": "pack",
            "restart": "no",
            "state": "stopped",
            "full_copy": True,
        }
    ]


def test_the_least_that_can_be_said_is_an_image(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("POST /iaas/machines", (201, machine("web")))
    assert iaas("vm", "add", "tiny").returncode == 0
    assert stranger.bodies("POST") == [{"image": "tiny"}]
    assert stranger.asked[0].headers["prefer"] == "wait=600"


def test_without_waiting_the_answer_comes_at_once(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("POST /iaas/machines", (202, machine("web", state="pending", settled=False)))
    done = iaas("vm", "add", "tiny", "--no-wait")
    assert (done.returncode, done.stdout) == (0, "web\n")
    assert stranger.asked[0].headers["prefer"] == "respond-async"


def test_a_machine_that_did_not_come_to_run_is_an_error_with_its_reason(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("POST /iaas/machines", (201, machine("web", state="failed", reason="exited with code 3")))
    done = iaas("vm", "add", "tiny")
    assert (done.returncode, done.stdout) == (1, "web\n")
    assert done.stderr == "iaas: web is failed: exited with code 3\n"


def test_a_machine_is_printed_for_programs(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("POST /iaas/machines", (201, machine("web")))
    assert json.loads(iaas("vm", "add", "tiny", "-o", "json").stdout) == machine("web")
    assert yaml.safe_load(iaas("vm", "add", "tiny", "-o", "yaml").stdout)["id"] == "web"


def test_when_nothing_fits_every_node_is_told_of(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("POST /iaas/machines", NOTHING_FITS)
    done = iaas("vm", "add", "tiny")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "iaas: no node can take it: memory on 1 node, state draining on 1",
        "iaas:   n1: memory: 9 MiB asked for, 1 of 4 MiB free",
        "iaas:   n2: the node is draining",
    ]


def test_a_taken_port_is_refused_with_its_holder(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("POST /iaas/machines", problem("port-taken", 409, "port 80/tcp of node n1 is taken by machine shop"))
    done = iaas("vm", "add", "tiny", "-n", "n1", "-p", "80:80")
    assert (done.returncode, done.stderr) == (1, "iaas: port 80/tcp of node n1 is taken by machine shop\n")


def test_an_explanation_is_a_table_of_all_nodes_and_places_nothing(stranger: Stranger, iaas: Run) -> None:
    fits = {"node": "n3", "fits": True, "filter": "", "reason": "chosen: the only one that fits", "score": 2.0}
    explained = {"chosen": "n3", "strategy": "spread", "summary": "n3: chosen", "verdicts": [*VERDICTS, fits]}
    stranger.tell("POST /iaas/machines/explain", (200, explained))
    done = iaas("vm", "add", "tiny", "--explain")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "NODE\tFITS\tSCORE\tFILTER\tREASON",
        "n1\tno\t-\tmemory\tmemory: 9 MiB asked for, 1 of 4 MiB free",
        "n2\tno\t-\tstate\tthe node is draining",
        "n3\tyes\t2.0\t-\tchosen: the only one that fits",
    ]
    assert done.stderr == "iaas: it would run on n3\n"
    assert json.loads(iaas("vm", "add", "tiny", "--explain", "-o", "json").stdout) == explained
    assert iaas("vm", "add", "tiny", "--explain", "-q").stdout == "n3\n"
    assert {each.target for each in stranger.asked} == {"/iaas/machines/explain"}


def test_an_explanation_without_a_place_ends_with_an_error(stranger: Stranger, iaas: Run) -> None:
    explained = {"chosen": None, "strategy": "spread", "summary": "memory on 2 nodes", "verdicts": VERDICTS}
    stranger.tell("POST /iaas/machines/explain", (200, explained))
    done = iaas("vm", "add", "tiny", "--explain")
    assert (done.returncode, done.stderr) == (1, "iaas: it would run nowhere: memory on 2 nodes\n")


def test_of_many_machines_those_that_failed_are_named(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("POST /iaas/machines", (201, machine("one")), (201, machine("two")), NOTHING_FITS)
    done = iaas("vm", "add", "tiny", "--name", "web", "--count", "4")
    assert done.returncode == 1
    assert sorted(done.stdout.split()) == ["one", "two"]
    assert sorted(each["name"] for each in stranger.bodies("POST")) == ["web-1", "web-2", "web-3", "web-4"]
    assert done.stderr.count("no node can take it") == 2
    assert done.stderr.splitlines()[-1] == "iaas: 2 of 4 machines failed"


def test_many_machines_are_one_list_for_programs(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("POST /iaas/machines", (201, machine("one")), (201, machine("two")))
    done = iaas("vm", "add", "tiny", "--count", "2", "-o", "json")
    assert sorted(each["id"] for each in json.loads(done.stdout)) == ["one", "two"]


def test_verbs_take_several_machines_and_go_on_after_an_error(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("PUT /iaas/machines/web", (200, machine("web", state="stopped")))
    done = iaas("vm", "stop", "nobody", "web")
    assert (done.returncode, done.stdout, done.stderr) == (1, "web\n", "iaas: nothing is here\n")


def test_a_node_that_does_not_answer_is_not_taken_for_the_controller(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("PUT /iaas/machines/web", problem("node-unreachable", 503, "node n1 does not answer"))
    stranger.tell("PUT /iaas/machines/shop", (200, machine("shop", state="stopped")))
    done = iaas("vm", "stop", "web", "shop")
    assert (done.returncode, done.stdout, done.stderr) == (1, "shop\n", "iaas: node n1 does not answer\n")


def test_a_machine_that_is_stopped_twice_is_told_so(stranger: Stranger, iaas: Run) -> None:
    stranger.tell(
        "PUT /iaas/machines/web",
        (200, machine("web", state="stopped")),
        problem("already-in-state", 409, "web is stopped already"),
    )
    assert iaas("vm", "stop", "web").returncode == 0
    again = iaas("vm", "stop", "web")
    assert (again.returncode, again.stderr) == (1, "iaas: web is stopped already\n")


def test_a_removal_is_printed_and_a_second_one_finds_nothing(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("DELETE /iaas/machines/web", (204, b""), stranger.fallback)
    assert iaas("vm", "rm", "web").stdout == "web\n"
    assert iaas("vm", "rm", "web").returncode == 1


def test_lists_are_columns_in_a_pipe(stranger: Stranger, iaas: Run) -> None:
    ports = [{"node_port": 8080, "machine_port": 80, "protocol": "tcp"}]
    stranger.tell("GET /iaas/machines", (200, [machine("web", ports=ports)]))
    stranger.tell("GET /iaas/nodes", (200, [node()]))
    stranger.tell("GET /iaas/images", (200, [image()]))
    assert iaas("vm", "ls").stdout.splitlines() == [
        "ID\tNAME\tTYPE\tIMAGE\tNODE\tSTATE\tADDRESS\tPORTS\tMEM\tCPUS\tSEEN\tREASON",
        "web\t-\tfake\ttiny\tn1\trunning\t-\t8080:80\t256\t1\tnever\t-",
    ]
    assert iaas("node", "ls").stdout.splitlines() == [
        "NAME\tSTATE\tADDRESS\tMACHINES\tMEM\tCPUS\tTYPES\tSEEN\tLABELS\tREASON",
        "n1\tready\t10.0.0.5:8081\t2\t512/4096\t2/64\tdocker\t2026-11-21T10:00:00.000000Z\t-\t-",
    ]
    assert iaas("img", "ls", "-q").stdout == "tiny\n"
    assert json.loads(iaas("node", "ls", "-o", "json").stdout) == [node()]


def test_filters_are_passed_on(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("GET /iaas/machines", (200, []))
    assert iaas("vm", "ls", "state=running", "node=n1").returncode == 0
    assert "state=running&node=n1" in stranger.asked[0].target


def test_a_filter_that_does_not_exist_is_refused_in_the_servers_words(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("GET /iaas/machines", problem("unknown-filter", 400, "colour is no field of a machine"))
    done = iaas("vm", "ls", "colour=red")
    assert (done.returncode, done.stderr) == (1, "iaas: colour is no field of a machine\n")


def test_one_node_is_shown_field_by_field(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("GET /iaas/nodes/n1", (200, node()))
    shown = dict(line.split("\t", 1) for line in iaas("node", "show", "n1").stdout.splitlines())
    assert shown["limit.mem"] == "4096"
    assert shown["drivers"] == "docker (20.10), libvirt (no: no socket)"


def test_a_node_is_added_and_waited_for(stranger: Stranger, iaas: Run, tmp_path: Path) -> None:
    stranger.tell("POST /iaas/nodes", (202, node(state="adding", operation="op1")))
    stranger.tell(
        "GET /iaas/operations/op1", (200, operation()), (200, operation(state="done", progress=1.0, updated_at="x"))
    )
    stranger.tell("GET /iaas/nodes/n1", (200, node()))
    words = (
        "node add n1 10.0.0.5:8081 --ssh-user admin --ssh-port 2222 --ssh-key key --label disk=ssd --overcommit-mem 1.5"
    )
    done = iaas(*words.split())
    assert (done.returncode, done.stdout, done.stderr) == (0, "n1\n", "")
    assert stranger.bodies("POST") == [
        {
            "name": "n1",
            "address": "10.0.0.5:8081",
            "overcommit": {"mem": 1.5},
            "labels": {"disk": "ssd"},
            "ssh": {"user": "admin", "port": 2222, "key_file": str(Path("key").absolute())},
        }
    ]


def test_a_node_that_could_not_be_made_is_told_of_in_its_own_words(stranger: Stranger, iaas: Run) -> None:
    error = problem(
        "provisioning-failed",
        502,
        "n1 could not be set up",
        task="install docker",
        host="10.0.0.5",
        words="E: Unable to locate package\nE: \x1b[31mgiving up",
    )[1]
    stranger.tell("POST /iaas/nodes", (202, node(state="adding", operation="op1")))
    stranger.tell("GET /iaas/operations/op1", (200, operation(state="failed", error=error)))
    done = iaas("node", "add", "n1", "10.0.0.5:8081")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "iaas: n1 could not be set up",
        "iaas: task: install docker",
        "iaas: host: 10.0.0.5",
        "iaas:   E: Unable to locate package",
        "iaas:   E: giving up",
        "iaas: mend it and say `iaas node add` again, or `iaas node rm n1`",
    ]


def test_a_node_that_is_there_already_is_refused(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("POST /iaas/nodes", problem("already-exists", 409, "a node called n1 is here already"))
    done = iaas("node", "add", "n1", "10.0.0.5:8081")
    assert (done.returncode, done.stderr) == (1, "iaas: a node called n1 is here already\n")
    iaas("node", "add", "n1", "10.0.0.5:8081", "--live-restore")
    assert [body.get("live_restore") for body in stranger.bodies("POST")] == [None, True]


def test_without_provisioning_the_token_of_the_host_is_shown_to_the_controller(
    stranger: Stranger, iaas: Run, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("garbi_" + HEX + "\n")
    token.chmod(0o600)
    stranger.tell("POST /iaas/nodes", (202, node(provision=False)))
    done = iaas("node", "add", "n1", "10.0.0.5:8081", "--no-provision", "--token-file", str(token))
    assert done.returncode == 0
    assert HEX not in done.stdout + done.stderr
    assert stranger.bodies("POST")[0] == {
        "name": "n1",
        "address": "10.0.0.5:8081",
        "provision": False,
        "token": "garbi_" + HEX,
    }


def test_a_drain_says_what_it_did(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("PUT /iaas/nodes/n1", (202, node(state="draining", operation="op1")))
    stranger.tell("GET /iaas/operations/op1", (200, operation(state="done", message="2 machines moved, 1 stopped")))
    stranger.tell("GET /iaas/nodes/n1", (200, node(state="draining")))
    done = iaas("node", "drain", "n1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "n1\n", "iaas: n1: 2 machines moved, 1 stopped\n")
    assert stranger.bodies("PUT") == [{"state": "draining"}]


def test_a_node_is_undrained_and_confirmed_dead_by_its_state(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("PUT /iaas/nodes/n1", (200, node()))
    assert iaas("node", "undrain", "n1").returncode == 0
    assert iaas("node", "confirm-dead", "n1").returncode == 0
    assert stranger.bodies("PUT") == [{"state": "ready"}, {"state": "unavailable"}]


def test_a_node_with_machines_is_only_removed_by_force(stranger: Stranger, iaas: Run) -> None:
    stranger.tell(
        "DELETE /iaas/nodes/n1", problem("conflict", 409, "n1 has machines: web, shop"), (202, node(operation="op1"))
    )
    stranger.tell("GET /iaas/operations/op1", (200, operation(state="done", message="")))
    refused = iaas("node", "rm", "n1")
    assert (refused.returncode, refused.stderr) == (1, "iaas: n1 has machines: web, shop\n")
    assert iaas("node", "rm", "--force", "n1").stdout == "n1\n"
    assert stranger.asked[1].target == "/iaas/nodes/n1?force=true"


def test_a_node_whose_host_does_not_answer_is_removed_by_force_and_that_is_said(stranger: Stranger, iaas: Run) -> None:
    error = problem("provisioning-failed", 502, "no SSH server answered", task="reach the host", host="h", words="")[1]
    stranger.tell("DELETE /iaas/nodes/n1", (202, node(operation="op1")))
    stranger.tell("GET /iaas/operations/op1", (200, operation(state="failed", error=error)))
    done = iaas("node", "rm", "n1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "iaas: --force gives it up and leaves its host as it is"
    assert "--force" not in iaas("node", "rm", "--force", "n1").stderr


def test_an_audit_without_violations_succeeds_and_one_with_does_not(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("GET /iaas/audit", (200, []), (200, [{"invariant": "I3", "subject": "n1", "detail": "too much"}]))
    assert iaas("audit").returncode == 0
    done = iaas("audit")
    assert (done.returncode, done.stdout.splitlines()[1]) == (1, "I3\tn1\ttoo much")


def test_events_are_lines(stranger: Stranger, iaas: Run) -> None:
    event = {
        "seq": 7,
        "at": "t",
        "subject": "node",
        "id": "n1",
        "kind": "state",
        "state": "ready",
        "actor": "controller",
    }
    stranger.tell("GET /iaas/events", (200, f"id: 7\ndata: {json.dumps(event)}\n\n: alive\n\n".encode()))
    assert iaas("events").stdout == "7\tt\tnode\tn1\tstate\tready\tcontroller\t-\n"
    assert json.loads(iaas("events", "--after", "6", "-o", "json", "subject=node").stdout) == event
    assert stranger.asked[0].target == "/iaas/events?last=10"
    assert stranger.asked[1].headers["last-event-id"] == "6"
    assert stranger.asked[1].target == "/iaas/events?subject=node"
    iaas("events", "--last", "2", "--no-follow")
    assert stranger.asked[2].target == "/iaas/events?last=2&follow=false"


def test_a_log_is_printed_without_what_moves_a_cursor(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("GET /iaas/machines/web/log", (200, b"one\r\n\x1b[2Jtwo"))
    assert iaas("vm", "log", "web").stdout == "one\ntwo\n"


def test_a_file_is_registered_and_sent_and_its_type_is_said(stranger: Stranger, iaas: Run, tmp_path: Path) -> None:
    file = tmp_path / "thing"
    file.write_bytes(b"0123456789")
    digest = hashlib.sha256(b"0123456789").hexdigest()
    stranger.tell("GET /iaas/images/tiny", stranger.fallback, (200, image(sha256=digest)))
    stranger.tell("POST /iaas/images", (201, image(state="queued", size=0, sha256="")))
    stranger.tell("HEAD /iaas/images/tiny/file", (204, b""))
    stranger.tell("PUT /iaas/images/tiny/file", (201, image(sha256=digest)))
    stranger.tell("PATCH /iaas/images/tiny/file", (201, image(sha256=digest)))
    done = iaas("img", "add", "tiny", str(file))
    assert (done.returncode, done.stdout) == (0, "tiny\n")
    assert "taken as raw" in done.stderr
    assert stranger.asked[1].json() == {"name": "tiny", "type": "raw"}
    assert b"0123456789" in [each.body for each in stranger.asked]


def test_the_same_image_again_is_no_error_and_another_is(stranger: Stranger, iaas: Run, tmp_path: Path) -> None:
    file = tmp_path / "thing.raw"
    file.write_bytes(b"0123456789")
    digest = hashlib.sha256(b"0123456789").hexdigest()
    stranger.tell("GET /iaas/images/tiny", (200, image(sha256=digest)), (200, image(sha256="f" * 64)))
    assert iaas("img", "add", "tiny", str(file), "-t", "raw").stdout == "tiny\n"
    other = iaas("img", "add", "tiny", str(file), "-t", "raw")
    assert (other.returncode, other.stderr) == (1, "iaas: another image called tiny is here already\n")
    assert {each.method for each in stranger.asked} == {"GET"}


def test_an_image_in_use_is_kept_and_its_users_are_named(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("DELETE /iaas/images/tiny", problem("image-in-use", 409, "tiny is used by web, shop"), (204, b""))
    refused = iaas("img", "rm", "tiny")
    assert (refused.returncode, refused.stderr) == (1, "iaas: tiny is used by web, shop\n")
    assert iaas("img", "rm", "tiny").stdout == "tiny\n"


def test_a_token_file_is_read_and_shown_and_a_stranger_gets_none_by_itself(
    stranger: Stranger, iaas: Run, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("garbi_" + HEX + "\n")
    token.chmod(0o600)
    stranger.tell("GET /iaas/machines", (200, []))
    assert iaas("--token-file", str(token), "vm", "ls").returncode == 0
    assert stranger.asked[0].headers["authorization"] == "Bearer garbi_" + HEX


def test_who_is_not_known_is_told_where_the_token_is(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("GET /iaas/machines", problem("unauthenticated", 401, "the token is missing or wrong"))
    done = iaas("vm", "ls")
    assert done.returncode == 1
    assert "--token-file or GARBI_IAAS_TOKEN_FILE" in done.stderr


def test_commands_in_a_pipe_run_one_after_the_other(stranger: Stranger, iaas: Run) -> None:
    stranger.tell("GET /iaas/nodes", (200, [node()]))
    done = iaas(stdin="node ls -q\nnonsense\n# a comment\niaas node ls -q\nexit\nnode ls -q\n")
    assert (done.returncode, done.stdout) == (0, "n1\nn1\n")
    assert "No such command" in done.stderr


def test_how_a_host_is_switched_off_is_told_without_a_secret_in_sight(
    stranger: Stranger, iaas: Run, tmp_path: Path
) -> None:
    stranger.tell("PATCH /iaas/nodes/n1", (200, node("n1")))
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    done = iaas(
        "node", "set", "n1", "--fence-agent", "fence_ipmilan", "--fence-option", "ip=192.0.2.9", "--fence-option", "plug=",
        "--fence-option", f"password=@{secret}",
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "n1\n", "")
    options = {"ip": "192.0.2.9", "plug": None}
    assert stranger.bodies("PATCH") == [
        {"power": {"agent": "fence_ipmilan", "options": options, "secrets": {"password": "s3cret"}}}
    ]
    seen = iaas("node", "set", "n1", "--fence-option", "password=s3cret")
    assert seen.returncode == 2
    assert "password=@FILE" in seen.stderr
    assert iaas("node", "set", "n1").returncode == 2
    stranger.tell("POST /iaas/nodes/n1/test-fence", (200, {"agent": "fence_ipmilan", "status": "on", "words": ""}))
    assert iaas("node", "test-fence", "n1").stdout == "n1: fence_ipmilan says on\n"
    refused = problem(
        "fence-failed", 503, "fence_ipmilan says off, and node n1 answers: that is the plug of another host"
    )
    stranger.tell("POST /iaas/nodes/n1/test-fence", refused)
    failed = iaas("node", "test-fence", "n1")
    assert failed.returncode == 1
    assert "plug of another host" in failed.stderr
