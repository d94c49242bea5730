"""Commands about images: images ls, build tiny, add, rm."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from garbi.base.errors import AlreadyExists, FinalError, InvalidField, NotFound
from garbi.content.guessing import TYPES, guess_type
from garbi.hyper.cli.server import connect
from garbi.terminal.arguments import each, filters_argument, read_filters
from garbi.terminal.output import (
    Column,
    Document,
    Format,
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
    from garbi.hyper_api.client import HyperClient

BLOCK = 2**20
BUILT = {"tiny": {"tiny": "qcow2", "tiny-docker": "docker"}}
"""What a recipe makes: names and types, in the order of its files."""

COLUMNS = (
    Column("name", field("name")),
    Column("type", field("type")),
    Column("size", lambda image: _size(image, "size")),
    Column("unfolds to", lambda image: _size(image, "virtual_size")),
    Column("state", field("state")),
    Column("sha256", lambda image: plain(image["sha256"])[:12] if on_terminal() else plain(image["sha256"])),
    Column("created", field("created_at")),
)


@click.group("images")
def commands() -> None:
    """The images of this host."""


@commands.command("ls")
@filters_argument
@output_option
@quiet_option
@click.pass_context
def list_images(context: click.Context, filters: tuple[str, ...], output: Format, quiet: bool) -> None:
    """List images; `hyper images ls type=qcow2` lists some of them."""
    show_list(connect(context).images.list(read_filters(filters)), COLUMNS, "name", output, quiet)


@commands.command("add")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-t", "--type", type=click.Choice(TYPES), help="What the content is; guessed when not given.")
@click.pass_context
def add_image(context: click.Context, name: str, file: Path, type: str | None) -> None:
    """Send a file to the host as an image; prints its name."""
    _upload(connect(context), name, file, type or _guess(file))


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


@commands.command("build")
@click.argument("recipe", type=click.Choice(["tiny"]))
@click.option("--to", type=click.Path(path_type=Path), help="Leave the files in this directory; add nothing.")
@click.pass_context
def build_image(context: click.Context, recipe: str, to: Path | None) -> None:
    """Build images from this distribution's packages and add them: `tiny` (qcow2) and `tiny-docker` (docker)."""
    import tempfile

    from garbi.hyper.images.tiny import build_tiny

    if to is not None:
        _build_to(recipe, to)
        return
    client = connect(context)
    present = {image["name"] for image in client.images.list()}
    if present.issuperset(BUILT[recipe]):
        for name in BUILT[recipe]:
            say(f"{name} is here already" if on_terminal() else name)
        return
    with tempfile.TemporaryDirectory(prefix="garbi-tiny-") as directory:
        with working(f"building {recipe}: kernel, initramfs, disk, container"):
            files = build_tiny(Path(directory))
        for (name, kind), file in zip(BUILT[recipe].items(), files, strict=True):
            if name not in present:
                _upload(client, name, file, kind)


def _build_to(recipe: str, directory: Path) -> None:
    from garbi.hyper.images.tiny import build_tiny

    with working(f"building {recipe}: kernel, initramfs, disk, container"):
        files = build_tiny(directory)
    for file in files:
        say(str(file))


def _upload(client: HyperClient, name: str, file: Path, kind: str) -> None:
    """Send a file, unless the name is taken: the refusal is cheaper before than after."""
    try:
        with working(f"reading {file.name}"), file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        size = file.stat().st_size
        image = _present(client, name, kind, digest)
        if image is None:
            image = client.images.add(
                name, kind, lambda done: sent(_blocks(file, done), size, name, done), size, digest
            )
    except OSError as error:
        raise FinalError(f"{file} cannot be read: {error.strerror}") from error
    say(f"{image['name']} is here ({image['type']}, {size_text(image['size'])})" if on_terminal() else image["name"])


def _present(client: HyperClient, name: str, kind: str, digest: str) -> Document | None:
    """The image of that name, if it is the same; raises AlreadyExists if it is another."""
    try:
        image = client.images.get(name)
    except NotFound:
        return None
    if (image["type"], image["sha256"]) != (kind, digest):
        raise AlreadyExists(f"another image called {name} is here already", field="name")
    return image


def _blocks(file: Path, offset: int) -> Iterator[bytes]:
    with file.open("rb") as content:
        content.seek(offset)
        while block := content.read(BLOCK):
            yield block


def _guess(file: Path) -> str:
    """What the file seems to be; raises InvalidField when nothing in it says so."""
    kind = guess_type(file)
    if kind is None:
        raise InvalidField("type", f"nothing in {file.name} says what it is; say it with --type", allowed=list(TYPES))
    return kind


def _size(image: Document, name: str) -> str:
    return size_text(image[name]) if on_terminal() else plain(image[name])
