"""Who may ask, and how much: decides before anything is read whether a request is looked at.

Whoever asks must be known, on every path. A browser's pages are refused before that: one whose name was rebound to this
host's address comes with a foreign Host, a page's script with a foreign Origin, what a page embeds with a foreign site.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from garbi.base.errors import ContentTooLarge, GarbiError, MalformedRequest, RefusedRequest, UnsupportedMedia
from garbi.web.identity import Identify
from garbi.web.problems import answer

MAX_BODY = 2**20
JSON_METHODS = ("POST", "PUT", "PATCH")
JSON_MEDIA = ("application/json",)
MERGE_PATCH = "application/merge-patch+json"
"""How a change of a part may call itself (RFC 7396)."""

Streamed = Callable[[str, str], bool]
"""Whether the body of a request, told by method and path, is content: of any size, and read in pieces."""

SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


class Gate:
    """ASGI: refuse requests from where none is accepted, of whom `identify` does not know, too large, or of unclear media.

    Nothing of a body is read, and no route is looked for, before it is known who asks.
    """

    def __init__(self, app: ASGIApp, streamed: Streamed, identify: Identify, host_names: Iterable[str] = ()) -> None:
        self._app = app
        self._streamed = streamed
        self._identify = identify
        self._host_names = frozenset(name.lower() for name in host_names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SAFE_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            self._check_source(scope)
            scope.setdefault("state", {})["caller"] = self._identify(scope)
            passed_on = receive if self._streamed(scope["method"], scope["path"]) else await _read_body(scope, receive)
        except GarbiError as error:
            await answer(error)(scope, receive, send_safely)
        else:
            await self._app(scope, passed_on, send_safely)

    def _check_source(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(_name_of(hosts[0]), scope):
            shown = ", ".join(hosts)[:80]
            detail = f"no request is accepted for the host {shown!r}; ask for 127.0.0.1 or localhost"
            raise RefusedRequest(detail, field="Host")
        for origin in headers.getlist("origin"):
            if origin.lower() != f"{scope['scheme']}://{hosts[0]}".lower():
                raise RefusedRequest(f"no request is accepted from pages of {origin[:80]!r}", field="Origin")
        # What a page embeds has no Origin; browsers say by another header that it is not the user who asks.
        asked_by_user = headers.get("sec-fetch-dest") == "document"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not asked_by_user:
            raise RefusedRequest("no request is accepted from pages of other sites", field="Sec-Fetch-Site")

    def _is_ours(self, name: str, scope: Scope) -> bool:
        if name == "localhost" or name in self._host_names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        server = scope.get("server")
        return bool(address.is_loopback or (server is not None and str(address) == server[0]))


def _name_of(host: str) -> str:
    """The name in a Host header, without its port and without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


async def _read_body(scope: Scope, receive: Receive) -> Receive:
    """Read the whole body, if it is small enough; return what gives it once more to those who ask."""
    headers = Headers(scope=scope)
    declared = headers.get("content-length")
    if declared is not None and (not _is_number(declared) or int(declared[:20]) > MAX_BODY):
        raise _too_large()
    if declared is None and "transfer-encoding" not in headers:
        return receive
    body = await _collect(receive)
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    taken = JSON_MEDIA if scope["method"] != "PATCH" else (*JSON_MEDIA, MERGE_PATCH)
    if body and scope["method"] in JSON_METHODS and media not in taken:
        detail = "the body must be JSON and say so: Content-Type: application/json"
        raise UnsupportedMedia(detail, allowed="application/json")
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _collect(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise MalformedRequest("the request ended before its body did")
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise _too_large()
        if not message.get("more_body", False):
            return bytes(body)


def _too_large() -> ContentTooLarge:
    rule = f"at most {MAX_BODY} bytes"
    return ContentTooLarge(f"the body is too large: it takes {rule}", allowed=rule)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
