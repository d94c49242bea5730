"""Commands about images: add, ls, rm."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from garbi.base.errors import AlreadyExists, DigestMismatch, FinalError, NotFound
from garbi.content.guessing import TYPES, guess_type
from garbi.iaas.cli.server import connect
from garbi.terminal.arguments import each, filters_argument, read_filters
from garbi.terminal.output import (
    Column,
    Document,
    Format,
    complain,
    field,
    on_terminal,
    output_option,
    plain,
    quiet_option,
    say,
    show_list,
    size_text,
)
from garbi.terminal.progress import sent, working

if TYPE_CHECKING:
    from garbi.iaas_api.client import IaasClient

BLOCK = 2**20
FALLBACK_TYPE = "raw"


def _size(name: str) -> Callable[[Document], str]:
    def text(image: Document) -> str:
        number = image.get(name)
        return size_text(number) if on_terminal() and isinstance(number, int) else plain(number)

    return text


def digest_text(image: Document) -> str:
    """The digest, as much of it as tells images apart; in a pipe all of it."""
    return plain(image.get("sha256"))[: 12 if on_terminal() else None]


COLUMNS = (
    Column("name", field("name")),
    Column("type", field("type")),
    Column("size", _size("size")),
    Column("unfolds to", _size("virtual_size")),
    Column("state", field("state")),
    Column("sha256", digest_text),
    Column("created", field("created_at")),
    Column("reason", field("reason"), rare=True),
)


@click.group("img")
def commands() -> None:
    """The images of the cloud."""


@commands.command("add")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-t", "--type", type=click.Choice(TYPES), help="What the content is; guessed, and said, when not given.")
@click.pass_context
def add_image(context: click.Context, name: str, file: Path, type: str | None) -> None:
    """Send a file to the cloud as an image; prints its name. Said again after it broke off, it goes on from there."""
    size = _size_of(file)
    kind = type or _guess(file)
    image = _upload(connect(context), name, file, kind, size)
    here = f"{plain(image.get('name'))} is here ({plain(image.get('type'))}, {_size('size')(image)})"
    say(here if on_terminal() else image["name"])


@commands.command("ls")
@filters_argument
@output_option
@quiet_option
@click.pass_context
def list_images(context: click.Context, filters: tuple[str, ...], output: Format, quiet: bool) -> None:
    """List images; `iaas img ls type=qcow2` lists some of them."""
    show_list(connect(context).images.list(read_filters(filters)), COLUMNS, "name", output, quiet)


@commands.command("rm")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.pass_context
def remove_image(context: click.Context, names: tuple[str, ...]) -> None:
    """Remove images that no machine was made from."""
    client = connect(context)

    def remove(name: str) -> None:
        client.images.remove(name)
        say(f"{name} is removed" if on_terminal() else name)

    each(context, names, remove)


def _size_of(file: Path) -> int:
    """The bytes of a file that can be read from its beginning again."""
    try:
        found = file.stat()
        with file.open("rb"):
            pass
    except OSError as error:
        raise FinalError(f"{file} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISBLK(found.st_mode):
        raise FinalError(f"{file} is not a file")
    if stat.S_ISBLK(found.st_mode):
        with file.open("rb") as device:
            return device.seek(0, os.SEEK_END)
    return found.st_size


def _guess(file: Path) -> str:
    kind = guess_type(file)
    if kind is None:
        complain(f"nothing in {file.name} says what it is: taken as {FALLBACK_TYPE}; --type says otherwise")
        return FALLBACK_TYPE
    complain(f"{file.name} is taken as {kind}; --type says otherwise")
    return kind


def _upload(client: IaasClient, name: str, file: Path, kind: str, size: int) -> Document:
    """Send a file, or the rest of it, unless the same image is there already.

    What the controller has of it is only gone on with when the whole is known by its digest.
    """
    present = _present(client, name)
    content = Reading(file, size, name)
    if present is None:
        image = client.images.add(name, kind, content, size)
        if image.get("sha256") != content.digest():
            raise DigestMismatch("sha256", f"{name} is not what was sent: `iaas img rm {name}`, and send it again")
        return image
    if present.get("state") == "active" and (present.get("type"), present.get("size")) != (kind, size):
        raise _other(name)
    with working(f"reading {file.name}"):
        digest = content.digest()
    if present.get("state") == "active":
        if present.get("sha256") != digest:
            raise _other(name)
        return present
    return client.images.add(name, kind, content, size, digest)


def _present(client: IaasClient, name: str) -> Document | None:
    try:
        return client.images.get(name)
    except NotFound:
        return None


def _other(name: str) -> AlreadyExists:
    return AlreadyExists(f"another image called {name} is here already", field="name")


class Reading:
    """The blocks of a file from any offset on, with its digest on the way; whoever watches sees a bar."""

    def __init__(self, file: Path, size: int, title: str) -> None:
        self._file = file
        self._size = size
        self._title = title
        self._hash = hashlib.sha256()
        self._hashed = 0

    def __call__(self, offset: int) -> Iterator[bytes]:
        """The blocks after `offset`; raises FinalError when they cannot be read."""
        self._hash_up_to(offset)
        return sent(self._blocks(offset), self._size, self._title, offset)

    def digest(self) -> str:
        """The sha256 of the whole file; what was sent is not read again."""
        self._hash_up_to(self._size)
        return self._hash.hexdigest()

    def _hash_up_to(self, offset: int) -> None:
        for _ in self._blocks(self._hashed, offset):
            pass

    def _blocks(self, start: int, end: int | None = None) -> Iterator[bytes]:
        left = (self._size if end is None else end) - start
        try:
            with self._file.open("rb") as content:
                content.seek(start)
                while left > 0 and (block := content.read(min(BLOCK, left))):
                    self._note(start, block)
                    start += len(block)
                    left -= len(block)
                    yield block
        except OSError as error:
            raise FinalError(f"{self._file} cannot be read: {error.strerror}") from error
        if left > 0:
            raise FinalError(f"{self._file} became shorter while it was read")

    def _note(self, start: int, block: bytes) -> None:
        """Take a block into the digest, once."""
        new = start + len(block) - self._hashed
        if new > 0 and start <= self._hashed:
            self._hash.update(block[len(block) - new :])
            self._hashed += new
