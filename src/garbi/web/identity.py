"""Who asks: the one place where a service decides it, from the head of a request alone.

Today there is one caller, who shows the token of the service and may do all. Certificates and roles come in here: what a
service asks is a function from the scope of a request to its Caller.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Scope

from garbi.base.errors import Unauthenticated
from garbi.base.token import Secret as Secret
from garbi.base.token import open_secret as open_secret

HEADER = b"authorization"
SCHEME = b"bearer"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    name: str


Identify = Callable[[Scope], Caller]
"""Who sent a request; raises Unauthenticated."""

OWNER = Caller("owner")
"""Who holds the token of a service."""


class Authenticator:
    """Knows the caller by the token of the service, and keeps only its digest."""

    def __init__(self, secret: str) -> None:
        self._digest = _digest(secret.encode())

    def __call__(self, scope: Scope) -> Caller:
        """The caller of a request; raises Unauthenticated without the one right token in its one right place."""
        shown = [value for name, value in scope["headers"] if name == HEADER]
        if not shown:
            raise Unauthenticated("this service answers to its token only: Authorization: Bearer <token>")
        scheme, _, token = shown[0].partition(b" ")
        # By digest: the time that the comparison takes tells neither the token nor its length.
        known = hmac.compare_digest(_digest(token.strip()), self._digest)
        if len(shown) > 1 or scheme.lower() != SCHEME or not known:
            raise Unauthenticated("the token that was shown is not the one of this service")
        return OWNER


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
