"""Every error that a user can meet, in one tree.

GarbiError
├── FinalError                      asking again changes nothing
│   ├── InvalidField         422    a field of the request is not allowed
│   │   ├── UnknownImage     422    ... it names an image that is not here
│   │   ├── UnknownType      422    ... it names a driver that does not exist
│   │   ├── ImageRejected    422    ... the content is corrupt, hostile or not of the declared type
│   │   └── DigestMismatch   422    ... the content is not what its sha256 says
│   ├── UnknownFilter        400    a list was asked for by a field that it does not have
│   ├── MalformedRequest     400    the request cannot be read: its body is not JSON, a header is not what it should be
│   ├── MethodNotAllowed     405    the path exists, but not for this method
│   ├── UnsupportedMedia     415    the body is of another media type than the one that is read here
│   ├── Unauthenticated      401    the request does not show the token of the service
│   ├── RefusedRequest       403    the request comes from where none is accepted (a browser's page, another host name)
│   ├── NotFound             404    no machine, image or path of that name
│   ├── Conflict             409    the request and the present state exclude each other
│   │   ├── AlreadyExists    409    ... the id or name is taken
│   │   ├── AlreadyInState   409    ... a start of what runs, a stop of what is stopped
│   │   ├── NotAsWished      409    ... the wish is taken, but the machine did not become so; `state` is what it is
│   │   ├── PortTaken        409    ... the port belongs to somebody, who is named
│   │   ├── CapacityExceeded 409    ... the host does not have that much left
│   │   ├── NothingFits      409    ... no node can take the machine; `verdicts` says of each node why
│   │   ├── OffsetMismatch   409    ... the upload does not go on there; `expected_offset` says where it does
│   │   ├── StaleWrite       409    ... what was read has changed since; it is to be read again
│   │   ├── StaleOrder       409    ... the order is of a controller or an assignment that has been followed by another
│   │   ├── ImageInUse       409    ... machines were made from the image, they are named
│   │   ├── AbilityMissing   409    ... this driver cannot do that
│   │   └── DataDirLocked    409    ... another agent or controller works on this data directory, or on this database
│   ├── NotLeading           421    another controller of the same cloud leads, and is the one to be asked
│   ├── ContentTooLarge      413    the body is larger than allowed
│   ├── NoSpace              507    the disk is full; nothing was changed
│   ├── DriverFailed         500    the hypervisor or engine refused, in its own words
│   └── ProvisioningFailed   502    a host could not be made into a node; `task`, `host` and `words` (its own) say why
└── TemporaryError                  the same request may succeed later
    ├── DriverUnavailable    503    the daemon behind a driver does not answer or is not installed
    ├── ShareUnavailable     503    the image is not to be had from the image share of the host
    ├── Busy                 503    the host is working on what excludes this
    ├── StorageFailed        503    a disk cannot be read or written, which no space that is freed would mend
    ├── DatabaseUnavailable  503    the database server does not answer or ended the connection
    │   └── DatabaseDamaged  503    ... the file of the database is damaged; a copy of it has to be put back
    ├── FenceFailed          503    a fence could not prove that the machines of a node have stopped
    └── ServerUnreachable    503    no answer from the service (raised by clients)
        └── NodeUnreachable  503    ... the controller answers, but the node behind it does not

Each class has a stable `code`, which is part of the contract, and an HTTP status; `garbi.base.problem` turns an error into
RFC 9457 problem details. A library's exception is converted where the library is called, never further up.
"""

from __future__ import annotations

from typing import Any, ClassVar


class GarbiError(Exception):
    """An error with a stable code. `detail` is one sentence for the user; `extra` holds further members of the answer."""

    code: ClassVar[str] = "internal-error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    temporary: ClassVar[bool] = False

    def __init__(self, detail: str, /, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class FinalError(GarbiError):
    """Asking again changes nothing."""


class TemporaryError(GarbiError):
    """The same request may succeed later."""

    temporary = True


class InvalidField(FinalError):
    """A field is not allowed. `field` names it, `allowed` says what would be."""

    code, status, title = "invalid-field", 422, "Invalid field"

    def __init__(self, field: str, detail: str, allowed: Any = None, **extra: Any) -> None:
        super().__init__(detail, field=field, **({} if allowed is None else {"allowed": allowed}), **extra)


class UnknownImage(InvalidField):
    code, title = "unknown-image", "Unknown image"


class UnknownType(InvalidField):
    code, title = "unknown-type", "Unknown machine type"


class ImageRejected(InvalidField):
    code, title = "image-rejected", "Image rejected"


class DigestMismatch(InvalidField):
    code, title = "digest-mismatch", "Digest mismatch"


class UnknownFilter(FinalError):
    code, status, title = "unknown-filter", 400, "Unknown filter"


class MalformedRequest(FinalError):
    code, status, title = "malformed-request", 400, "Malformed request"


class MethodNotAllowed(FinalError):
    code, status, title = "method-not-allowed", 405, "Method not allowed"


class UnsupportedMedia(FinalError):
    code, status, title = "unsupported-media", 415, "Unsupported media type"


class Unauthenticated(FinalError):
    code, status, title = "unauthenticated", 401, "Not authenticated"


class RefusedRequest(FinalError):
    code, status, title = "refused-request", 403, "Request refused"


class NotFound(FinalError):
    code, status, title = "not-found", 404, "Not found"


class Conflict(FinalError):
    code, status, title = "conflict", 409, "Conflict"


class AlreadyExists(Conflict):
    code, title = "already-exists", "Already exists"


class AlreadyInState(Conflict):
    code, title = "already-in-state", "Already in that state"


class NotAsWished(Conflict):
    """`state` is what the machine is. The reason says whether the agent tries again by itself."""

    code, title = "not-as-wished", "Not as wished"


class PortTaken(Conflict):
    """`holder` says who has the port: a machine, or a process of the host with its pid."""

    code, title = "port-taken", "Port taken"


class CapacityExceeded(Conflict):
    code, title = "capacity-exceeded", "Not enough capacity"


class NothingFits(Conflict):
    """`verdicts` has one entry for each node: `node`, `fits`, `filter`, `reason`, `score`."""

    code, title = "nothing-fits", "No node fits"


class OffsetMismatch(Conflict):
    """`expected_offset` is how many bytes have come, `provided_offset` where the request would go on."""

    code, title = "offset-mismatch", "The upload does not go on there"


class StaleWrite(Conflict):
    code, title = "stale-write", "Changed meanwhile"


class StaleOrder(Conflict):
    """The order has no effect (invariant I11). `stale` names what has passed: controller, lease or epoch."""

    code, title = "stale-order", "Overtaken by a later order"


class ImageInUse(Conflict):
    code, title = "image-in-use", "Image in use"


class AbilityMissing(Conflict):
    code, title = "ability-missing", "The driver cannot do that"


class DataDirLocked(Conflict):
    code, title = "data-dir-locked", "Data directory in use"


class NotLeading(FinalError):
    """Another controller of the same cloud can do it: the one that leads."""

    code, status, title = "not-leading", 421, "This controller follows"


class ContentTooLarge(FinalError):
    code, status, title = "content-too-large", 413, "Content too large"


class NoSpace(FinalError):
    code, status, title = "no-space", 507, "No space left"


class DriverFailed(FinalError):
    code, status, title = "driver-failed", 500, "The driver failed"


class ProvisioningFailed(FinalError):
    """`task` is what was being done, `host` where, `words` what the host itself said. Trying again goes on from there."""

    code, status, title = "provisioning-failed", 502, "Provisioning failed"

    def __init__(self, detail: str, task: str, host: str, words: str, **extra: Any) -> None:
        super().__init__(detail, task=task, host=host, words=words, **extra)


class DriverUnavailable(TemporaryError):
    code, status, title = "driver-unavailable", 503, "Driver unavailable"


class ShareUnavailable(TemporaryError):
    code, status, title = "share-unavailable", 503, "Image share unavailable"


class Busy(TemporaryError):
    code, status, title = "busy", 503, "Busy"


class StorageFailed(TemporaryError):
    """The disk itself refuses: its file system is read-only, or it answers with errors. It may be mended under the service."""

    code, status, title = "storage-failed", 503, "Storage failed"


class DatabaseUnavailable(TemporaryError):
    code, status, title = "database-unavailable", 503, "Database unavailable"


class DatabaseDamaged(DatabaseUnavailable):
    """The file of the database is not what was written. Nothing mends that by itself; a copy has to be put back."""

    code, title = "database-damaged", "Database damaged"


class FenceFailed(TemporaryError):
    code, status, title = "fence-failed", 503, "Nothing proven"


class ServerUnreachable(TemporaryError):
    code, status, title = "server-unreachable", 503, "Server unreachable"


class NodeUnreachable(ServerUnreachable):
    code, title = "node-unreachable", "Node unreachable"
