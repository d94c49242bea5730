"""The token file: made once, whole, for its owner only; and what of it a client finds."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from garbi.base import token
from garbi.base.errors import FinalError, GarbiError, NoSpace, Unauthenticated
from garbi.base.token import TOKEN_FILE, Secret, new_secret, open_secret, read_secret
from garbi.terminal.identity import find_token, is_local, where_token
from garbi.web.identity import OWNER, Authenticator

LOCAL = "http://127.0.0.1:8081"


def test_a_token_is_made_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        secret = open_secret(tmp_path)
    finally:
        os.umask(before)
    found = (tmp_path / TOKEN_FILE).stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, os.geteuid())
    assert (tmp_path / TOKEN_FILE).read_text() == f"{secret}\n"
    assert [path.name for path in tmp_path.iterdir()] == [TOKEN_FILE]


def test_a_token_has_256_bits_behind_a_prefix_that_scanners_know() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"garbi_[A-Za-z0-9_-]{43}", each) for each in made)


def test_the_token_stays_the_same_at_every_start(tmp_path: Path) -> None:
    assert len({open_secret(tmp_path) for _ in range(3)}) == 1


def test_what_a_start_left_that_was_killed_while_it_wrote_is_no_token(tmp_path: Path) -> None:
    (tmp_path / (TOKEN_FILE + ".new")).write_text("garbi_hal")
    secret = open_secret(tmp_path)
    assert read_secret(tmp_path / TOKEN_FILE) == secret
    assert [path.name for path in tmp_path.iterdir()] == [TOKEN_FILE]


def test_a_token_that_was_put_there_by_others_for_us_is_taken(tmp_path: Path) -> None:
    text = "x" * 43
    (tmp_path / TOKEN_FILE).write_text(text)
    (tmp_path / TOKEN_FILE).chmod(0o600)
    assert open_secret(tmp_path) == text


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o666, 0o601])
def test_a_token_file_that_others_can_open_is_refused_with_the_way_to_mend_it(tmp_path: Path, mode: int) -> None:
    open_secret(tmp_path)
    (tmp_path / TOKEN_FILE).chmod(mode)
    with pytest.raises(FinalError, match=f"mode {mode:04o}.*rm {tmp_path}/token.*chmod 600"):
        open_secret(tmp_path)


@pytest.mark.root
def test_a_token_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    open_secret(tmp_path)
    os.chown(tmp_path / TOKEN_FILE, 65534, 65534)
    with pytest.raises(FinalError, match=r"belongs to user 65534.*chown 0"):
        open_secret(tmp_path)


def _link(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.write_text("x" * 43)
    target.chmod(0o600)
    path.symlink_to(target)


def _fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def _folder(path: Path) -> None:
    path.mkdir(mode=0o700)


@pytest.mark.parametrize("make", [_link, _fifo, _folder])
def test_what_is_no_file_of_its_own_is_no_token_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / TOKEN_FILE)
    with pytest.raises(FinalError, match=re.escape(f"rm {tmp_path}/token")):
        open_secret(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"\xff" * 43, b"two words " * 5, b"x" * 400, b"a\nb" * 20])
def test_a_token_file_without_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / TOKEN_FILE).write_bytes(content)
    (tmp_path / TOKEN_FILE).chmod(0o600)
    with pytest.raises(FinalError, match="no token is in"):
        open_secret(tmp_path)


def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(token.os, "fsync", full)
    with pytest.raises(NoSpace, match="No space left"):
        open_secret(tmp_path)
    monkeypatch.undo()
    assert open_secret(tmp_path)


def test_a_token_does_not_show_itself_where_values_are_printed() -> None:
    secret = new_secret()
    assert secret not in f"{secret!r} {[secret]} { ({'token': secret}) }"
    assert f"Bearer {secret}" == "Bearer " + str.__str__(secret)


def _scope(*values: bytes) -> dict[str, object]:
    return {"type": "http", "headers": [(b"host", b"localhost"), *((b"authorization", each) for each in values)]}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_who_shows_the_token_is_known(scheme: str) -> None:
    secret = new_secret()
    assert Authenticator(secret)(_scope(f"{scheme} {secret}".encode())) == OWNER


@pytest.mark.parametrize(
    "shown",
    [
        (),
        (b"",),
        (b"Bearer",),
        (b"Bearer ",),
        (b"Bearer \xff\x00",),
        (b"Bearer " + b"x" * 60_000,),
        (b"Basic {}",),
        (b"{}",),
        (b"Bearer {}x",),
        (b"Bearer x{}",),
        (b"Bearer {}, Bearer {}",),
        (b"Bearer {}", b"Bearer {}"),
        (b"Bearer wrong", b"Bearer {}"),
        (b"Bearer\t{}",),
    ],
)
def test_who_does_not_show_the_token_in_the_one_right_way_is_refused(shown: tuple[bytes, ...]) -> None:
    secret = new_secret()
    values = [each.replace(b"{}", secret.encode()) for each in shown]
    with pytest.raises(Unauthenticated) as refused:
        Authenticator(secret)(_scope(*values))
    assert secret not in refused.value.detail


def test_the_authenticator_keeps_no_token(caplog: pytest.LogCaptureFixture) -> None:
    secret = new_secret()
    known = Authenticator(secret)
    with caplog.at_level(logging.DEBUG), pytest.raises(GarbiError):
        known(_scope(b"Bearer " + secret.encode() + b"x"))
    assert secret not in f"{vars(known)!s} {caplog.text}"


def test_a_client_takes_the_file_that_the_option_names_before_the_variables(tmp_path: Path) -> None:
    named, told, own = (_token_in(tmp_path / name) for name in ("named", "told", "own"))
    environment = {"GARBI_HYPER_TOKEN_FILE": str(tmp_path / "told" / TOKEN_FILE)}
    folder = tmp_path / "own"
    option = tmp_path / "named" / TOKEN_FILE
    assert find_token(option, "GARBI_HYPER_", folder, LOCAL, environment) == named
    assert find_token(None, "GARBI_HYPER_", folder, LOCAL, environment) == told
    assert find_token(None, "GARBI_HYPER_", folder, LOCAL, {}) == own
    moved = {"GARBI_HYPER_DATA_DIR": str(tmp_path / "told")}
    assert find_token(None, "GARBI_HYPER_", folder, LOCAL, moved) == told


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1:8081", "http://example.org", "http://127.0.0.1.example.org", "http://[2001:db8::1]:1", "x"],
)
def test_the_token_of_this_host_is_shown_to_no_other(tmp_path: Path, url: str) -> None:
    _token_in(tmp_path)
    assert not is_local(url)
    assert find_token(None, "GARBI_HYPER_", tmp_path, url, {}) is None


@pytest.mark.parametrize("url", [LOCAL, "http://localhost:1", "http://[::1]:8081", "https://127.9.9.9"])
def test_a_loopback_address_is_this_host(url: str) -> None:
    assert is_local(url)


def test_a_named_file_that_cannot_be_used_is_an_error_and_not_no_token(tmp_path: Path) -> None:
    with pytest.raises(FinalError, match="cannot be read: No such file"):
        find_token(tmp_path / "none", "GARBI_HYPER_", tmp_path, LOCAL, {})
    (tmp_path / "empty").touch()
    with pytest.raises(FinalError, match="no token is in"):
        find_token(tmp_path / "empty", "GARBI_HYPER_", tmp_path, LOCAL, {})


def test_a_person_is_told_where_the_token_is() -> None:
    said = " ".join(where_token("hyper"))
    assert "--token-file" in said
    assert "GARBI_HYPER_TOKEN_FILE" in said


def _token_in(folder: Path) -> Secret:
    folder.mkdir(exist_ok=True)
    return open_secret(folder)
