"""Images as rows: a name and the digest that it points to."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import Connection, delete, insert, select

from garbi.base.errors import AlreadyExists, GarbiError, ImageInUse, NotFound
from garbi.hyper.model.image import Image
from garbi.hyper.store.database import Database
from garbi.hyper.store.image_files import ImageFiles, read_row, to_values
from garbi.hyper.store.schema import images, kept, machines

SHOWN_USERS = 5


class ImageTable:
    """The rows behind the image library of a host."""

    def __init__(self, database: Database, files: ImageFiles | None = None) -> None:
        """`files` have each name once more."""
        self._database = database
        self._files = files

    def insert(self, image: Image) -> None:
        """Write a new image; raises AlreadyExists when the name is taken."""
        written = False
        try:
            with self._database.write() as transaction:
                taken = transaction.connection.execute(select(images.c.name).where(images.c.name == image.name)).first()
                if taken is not None:
                    raise AlreadyExists(f"an image called {image.name} is here already", field="name")
                if self._files is not None:
                    self._files.write(image)
                    written = True
                transaction.connection.execute(insert(images).values(**to_values(image)))
        except BaseException:
            if self._files is not None and written:  # else the next start would take it for a name
                with suppress(GarbiError):
                    self._files.delete(image.name)
            raise

    def repair(self) -> None:
        """Bring names and files in line, before content that no name needs is deleted: a crash, or an older copy, came between.

        A file whose content is here names what the database has yet to learn; without content it names nothing, and goes.
        """
        if self._files is None:
            return
        rows = {image.name: image for image in self.list()}
        for image in self._files.read():
            row = rows.get(image.name)
            if row is not None and row.sha256 == image.sha256:
                del rows[image.name]
            elif self._files.has_content(image) and (row is None or row.created_at < image.created_at):
                self._learn(image)
                rows.pop(image.name, None)
            elif row is None:
                self._files.delete(image.name)
        for image in rows.values():
            self._files.write(image)

    def get(self, name: str) -> Image | None:
        """The image of that name."""
        with self._database.read() as connection:
            row = connection.execute(select(images).where(images.c.name == name)).first()
        return read_row(row) if row is not None else None

    def evictable(self) -> list[Image]:
        """The cached images whose content no machine, no kept disk and no name for good needs, the least recently used first."""
        others = images.alias()
        named = select(others.c.name).where((others.c.sha256 == images.c.sha256) & ~others.c.cached).exists()
        used = select(machines.c.id).where(
            (machines.c.image_sha256 == images.c.sha256) | (machines.c.image == images.c.name)
        )
        below = select(kept.c.name).where(kept.c.image_sha256 == images.c.sha256)
        free = images.c.cached & ~named & ~used.exists() & ~below.exists()
        with self._database.read() as connection:
            rows = connection.execute(select(images).where(free).order_by(images.c.used_at, images.c.name))
            return [read_row(row) for row in rows]

    def list(self) -> list[Image]:
        """Every image, by name."""
        with self._database.read() as connection:
            return [read_row(row) for row in connection.execute(select(images).order_by(images.c.name))]

    def delete(self, name: str) -> None:
        """Delete the row; raises NotFound, or ImageInUse, which names the machines made from it, or the disks that lie on it."""
        with self._database.write() as transaction:
            connection = transaction.connection
            row = connection.execute(select(images.c.sha256).where(images.c.name == name)).first()
            if row is None:
                raise NotFound(f"no image is called {name}")
            _check_unused(connection, name)
            if self._files is not None:
                self._files.delete(name)  # now: one that was left by a crash would bring the name back
            connection.execute(delete(images).where(images.c.name == name))

    def needed_beside(self, image: Image) -> bool:
        """Whether another name or a machine needs the content too; raises ImageInUse when the name has to stay."""
        with self._database.read() as connection:
            _check_unused(connection, image.name)
            same = (images.c.sha256 == image.sha256) & (images.c.name != image.name)
            named = connection.execute(select(images.c.name).where(same).limit(1)).first()
            pinned = machines.c.image_sha256 == image.sha256
            used = connection.execute(select(machines.c.id).where(pinned).limit(1)).first()
        return named is not None or used is not None

    def digest_in_use(self, sha256: str) -> bool:
        """Whether a name, a machine or a kept disk still needs this content."""
        with self._database.read() as connection:
            named = connection.execute(select(images.c.name).where(images.c.sha256 == sha256).limit(1)).first()
            used = connection.execute(select(machines.c.id).where(machines.c.image_sha256 == sha256).limit(1)).first()
            below = connection.execute(select(kept.c.name).where(kept.c.image_sha256 == sha256).limit(1)).first()
        return (named, used, below) != (None, None, None)

    def _learn(self, image: Image) -> None:
        """Write what a file names, in place of what the database has under that name."""
        with self._database.write() as transaction:
            transaction.connection.execute(delete(images).where(images.c.name == image.name))
            transaction.connection.execute(insert(images).values(**to_values(image)))


def _check_unused(connection: Connection, name: str) -> None:
    users = list(connection.execute(select(machines.c.id).where(machines.c.image == name)).scalars())
    if users:
        raise ImageInUse(f"image {name} is in use by {_shown(users)}", machines=users)
    content = select(images.c.sha256).where(images.c.name == name).scalar_subquery()
    others = select(images.c.name).where((images.c.sha256 == content) & (images.c.name != name))
    below = select(kept.c.name).where((kept.c.image_sha256 == content) & ~others.exists()).order_by(kept.c.name)
    disks = list(connection.execute(below).scalars())
    if disks:
        words = f"image {name} is needed by the kept disks {_shown(disks)}; `hyper kept rm` deletes one"
        raise ImageInUse(words, machines=[], kept=disks)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN_USERS]) + (", …" if len(names) > SHOWN_USERS else "")
