"""Images as rows: a name and the content that it points to."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from garbi.base.clock import Clock, SystemClock, from_wire, to_wire
from garbi.base.errors import AlreadyExists, Conflict, ImageInUse, NotFound
from garbi.hyper_api.vocabulary import ImageState, ImageType
from garbi.iaas.model.event import Subject
from garbi.iaas.model.image import Image
from garbi.iaas.store import events
from garbi.iaas.store.database import Database, Transaction
from garbi.iaas.store.schema import images, machines

SHOWN_USERS = 5


class ImageTable:
    """The rows behind the image store of a controller. Each call is one transaction."""

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or SystemClock()

    def insert(self, image: Image) -> None:
        """Write a new image; raises AlreadyExists when the name is taken."""
        with self._database.write() as transaction:
            if find(transaction.connection, image.name) is not None:
                raise AlreadyExists(f"an image called {image.name} is here already", field="name")
            transaction.connection.execute(insert(images).values(**_to_row(image)))
            _tell(transaction, image, events.Kind.CREATED, image.created_at)

    def get(self, name: str) -> Image | None:
        """The image of that name."""
        with self._database.read() as connection:
            return find(connection, name)

    def list(self) -> list[Image]:
        """Every image, by name."""
        with self._database.read() as connection:
            return [_from_row(row) for row in connection.execute(select(images).order_by(images.c.name))]

    def save(self, image: Image) -> None:
        """Write the image of that name anew; raises NotFound when it is gone, Conflict when other content is active in it."""
        with self._database.write() as transaction:
            before = find(transaction.connection, image.name)
            if before is None:
                raise NotFound(f"no image is called {image.name}")
            open_to_change = or_(images.c.state != ImageState.ACTIVE, images.c.sha256 == image.sha256)
            statement = update(images).where(images.c.name == image.name, open_to_change).values(**_to_row(image))
            if transaction.connection.execute(statement).rowcount == 0:
                raise Conflict(f"image {image.name} has its content already", field="name")
            if (before.state, before.reason) != (image.state, image.reason):
                _tell(transaction, image, events.Kind.STATE, self._clock.now())

    def delete(self, name: str) -> None:
        """Delete the row; raises NotFound, or ImageInUse, which names machines made from it."""
        with self._database.write() as transaction:
            connection = transaction.connection
            image = find(connection, name)
            if image is None:
                raise NotFound(f"no image is called {name}")
            _check_unused(connection, name)
            connection.execute(delete(images).where(images.c.name == name))
            _tell(transaction, image, events.Kind.REMOVED, self._clock.now())

    def digest_in_use(self, sha256: str) -> bool:
        """Whether a name or a machine still needs this content."""
        with self._database.read() as connection:
            named = connection.execute(select(images.c.name).where(images.c.sha256 == sha256).limit(1)).first()
            used = connection.execute(select(machines.c.id).where(machines.c.image_sha256 == sha256).limit(1)).first()
        return named is not None or used is not None


def find(connection: Connection, name: str) -> Image | None:
    """The image of that name, in the caller's transaction."""
    row = connection.execute(select(images).where(images.c.name == name)).first()
    return _from_row(row) if row is not None else None


def names(connection: Connection) -> list[str]:
    """The names of all images, in the caller's transaction."""
    return [*connection.execute(select(images.c.name).order_by(images.c.name)).scalars()]


def _check_unused(connection: Connection, name: str) -> None:
    used = (machines.c.image == name) & (machines.c.image_sha256 != "")
    users = [*connection.execute(select(machines.c.id).where(used).order_by(machines.c.seq)).scalars()]
    if users:
        shown = ", ".join(users[:SHOWN_USERS]) + (", …" if len(users) > SHOWN_USERS else "")
        raise ImageInUse(f"image {name} is in use by {shown}", machines=users)


def _tell(transaction: Transaction, image: Image, kind: str, at: datetime) -> None:
    events.append(
        transaction, Subject.IMAGE, image.name, kind, at, state=image.state, actor=events.USER, reason=image.reason
    )


def _to_row(image: Image) -> dict[str, Any]:
    plain = ("name", "type", "size", "virtual_size", "sha256", "state", "reason")
    return {name: getattr(image, name) for name in plain} | {"created_at": to_wire(image.created_at)}


def _from_row(row: Row[Any]) -> Image:
    return Image(
        name=row.name,
        type=ImageType(row.type),
        size=row.size,
        virtual_size=row.virtual_size,
        sha256=row.sha256,
        state=ImageState(row.state),
        reason=row.reason,
        created_at=from_wire(row.created_at),
    )
