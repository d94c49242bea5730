"""The sandbox in which strangers' files are looked into: no other file, no network, bounded memory, time and output."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from garbi.base.errors import ImageRejected
from garbi.content import inspection
from garbi.content.inspection import inspect_image
from garbi.content.sandbox import FILE, Limits, python_command, run_confined, sandbox_kind
from garbi.hyper.model.image import ImageType

CANARY = "canary-of-the-host-7d1f0c"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(b"content of the image")
    return path


def python(program: str) -> list[str]:
    return ["/usr/bin/python3", "-I", "-c", program, FILE]


def test_this_host_confines_by_bubblewrap() -> None:
    assert sandbox_kind() == "bubblewrap"


def test_the_file_is_seen_and_no_other_file_of_the_host(image: Path) -> None:
    image.with_name("canary").write_text(CANARY)
    program = "import os, sys; print(open(sys.argv[1]).read(), sorted(os.listdir('/')), os.path.exists(sys.argv[2]))"
    ended = run_confined([*python(program), str(image.with_name("canary"))], image, Limits())
    assert ended.code == 0, ended.errors
    assert ended.output.startswith("content of the image [")
    assert ended.output.strip().endswith("False")
    seen = set(json.loads(ended.output[ended.output.index("[") : ended.output.index("]") + 1].replace("'", '"')))
    here = Path(sys.prefix).parts[1]  # the way to the interpreter is there, with nothing else on it
    assert not seen & ({"etc", "home", "root", "run", "srv", "sys", "tmp", "var"} - {here})


def test_qemu_cannot_follow_a_backing_file_even_if_it_is_asked_to(image: Path) -> None:
    canary = image.with_name("canary")
    canary.write_text(CANARY * 100)
    hostile = image.with_name("hostile")
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(canary), "--", str(hostile)]
    subprocess.run(create, check=True)
    outside = ["qemu-img", "info", "-f", "qcow2", "--backing-chain", "--", str(hostile)]
    assert subprocess.run(outside, check=False, capture_output=True).returncode == 0
    ended = run_confined(["qemu-img", "info", "-f", "qcow2", "--backing-chain", "--", FILE], hostile, Limits())
    assert ended.code != 0
    assert "No such file" in ended.errors


def test_there_is_no_network_not_even_to_the_host_itself(image: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
        ended = run_confined(python(program), image, Limits())
        assert ended.code == 1
        assert "Error" in ended.errors


def test_nothing_can_be_written_anywhere(image: Path) -> None:
    program = """
import os, sys
for place in (sys.argv[1], "/x", "/usr/x", "/dev/x"):
    try:
        with open(place, "wb") as file:
            file.write(b"x")
            file.flush()
        print("wrote", place)
    except OSError as error:
        pass
"""
    ended = run_confined(python(program), image, Limits())
    assert (ended.code, ended.output) == (0, ""), ended.errors
    assert image.read_bytes() == b"content of the image"


def test_memory_is_bounded(image: Path) -> None:
    ended = run_confined(python("bytearray(300 << 20)"), image, Limits(memory_bytes=256 << 20))
    assert ended.code == 1
    assert "MemoryError" in ended.errors


def test_processor_time_is_bounded(image: Path) -> None:
    ended = run_confined(python("while True: pass"), image, Limits(cpu_s=1))
    assert ended.killed


def test_a_program_that_only_waits_is_ended_too_with_all_its_children(image: Path) -> None:
    program = "import os, signal; os.fork(); signal.pause()"
    marker = f"garbi-test-{os.getpid()}"
    ended = run_confined([*python(program), marker], image, Limits(cpu_s=1))
    assert ended.killed
    assert not processes_with(marker)


def test_a_program_that_closes_its_output_and_stays_is_ended_too(image: Path) -> None:
    ended = run_confined(python("import os, signal; os.close(1); os.close(2); signal.pause()"), image, Limits(cpu_s=1))
    assert ended.killed


def processes_with(marker: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes():
                found.append(path.parent.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_output_without_end_is_cut(image: Path) -> None:
    ended = run_confined(python("print('x' * (8 << 20))"), image, Limits())
    assert len(ended.output) == 1 << 20


def test_no_variable_of_the_agent_reaches_the_program(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GARBI_SECRET", CANARY)
    ended = run_confined(python("import os; print(sorted(os.environ))"), image, Limits())
    assert "SECRET" not in ended.output


def test_an_inspection_over_its_limits_refuses_the_image(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image.write_bytes(bytes(1 << 20))
    monkeypatch.setattr(inspection, "Limits", lambda cpu_s=1: Limits(memory_bytes=1 << 20, cpu_s=cpu_s))
    with pytest.raises(Exception, match=r"inspection of images does not work|more time or memory"):
        inspect_image(image, ImageType.RAW, 1 << 30)


def test_the_inspector_runs_alone_in_the_sandbox(image: Path) -> None:
    ended = run_confined(python_command("garbi.content.inspector", "raw", "1000000", FILE), image, Limits())
    assert json.loads(ended.output)["field"] == "file"
    with pytest.raises(ImageRejected, match="cut off"):
        inspect_image(image, ImageType.RAW, 1 << 30)
