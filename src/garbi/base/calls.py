"""Requests and answers of documents: what the clients of both services are made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from garbi.base.errors import NotFound, ServerUnreachable
from garbi.base.http import Answer, Request, Transport
from garbi.base.problem import from_problem

ANSWER_S = 30.0
"""How long an answer may take beyond the time that was asked to wait."""

NOT_MODIFIED = 304
PAGE = 500

Document = dict[str, Any]


class Calls:
    """Requests and answers of documents; an answer that is an error is raised."""

    def __init__(self, transport: Transport, token: str | None = None) -> None:
        self._transport = transport
        self._identity = {} if token is None else {"Authorization": f"Bearer {token}"}

    def documents(self, path: str, filters: Mapping[str, str], key: str | None) -> list[Document]:
        """A whole list, page by page; `key` is the field by which pages continue."""
        if key is None:
            return self._list(target(path, filters))
        found: list[Document] = []
        query = {**filters, "limit": str(PAGE)}
        while True:
            page = self._list(target(path, query))
            found += page
            if len(page) < PAGE:
                return found
            query["marker"] = str(page[-1][key])

    def document(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        wait_s: float = 0,
        headers: Mapping[str, str] | None = None,
    ) -> Document:
        """The document that a request is answered with; `wait_s` is the patience that it asks for."""
        content = None if body is None else json.dumps(body).encode()
        sent = {**(headers or {}), **prefer(wait_s), **({} if body is None else {"Content-Type": "application/json"})}
        return parse(self.send(method, path, content, sent, ANSWER_S + wait_s).read())

    def send(
        self,
        method: str,
        target: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = ANSWER_S,
    ) -> Answer:
        """The answer to a request; raises the error that it describes. 304 is an answer, to who asked for what has changed."""
        answer = self._transport.send(Request(method, target, {**self._identity, **(headers or {})}, body, timeout_s))
        if 200 <= answer.status < 300 or answer.status == NOT_MODIFIED:
            return answer
        try:
            problem = json.loads(answer.read())
        except ValueError:  # such as the answer to HEAD, which has no body
            problem = {"code": NotFound.code} if answer.status == NotFound.status else {}
        raise from_problem(problem if isinstance(problem, dict) else {}, answer.status)

    def _list(self, target: str) -> list[Document]:
        found = _load(self.send("GET", target).read())
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise _stranger()
        return found


def read_events(chunks: Iterable[bytes]) -> Iterator[Document]:
    """The documents in a stream of server-sent events; comments and names are passed over."""
    rest = b""
    for chunk in chunks:
        *blocks, rest = (rest + chunk).split(b"\n\n")
        for block in blocks:
            data = [line[5:].strip() for line in block.split(b"\n") if line.startswith(b"data:")]
            if data:
                yield parse(b"\n".join(data))


def _load(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise _stranger() from None


def parse(content: bytes) -> Document:
    """The document in an answer; raises ServerUnreachable when it is none."""
    document = _load(content)
    if not isinstance(document, dict):
        raise _stranger()
    return document


def _stranger() -> ServerUnreachable:
    return ServerUnreachable("what answered is not a service of this version of Garbi")


def prefer(wait_s: float) -> dict[str, str]:
    """The header that asks to wait so many seconds, or not at all (RFC 7240)."""
    return {"Prefer": f"wait={wait_s:.0f}" if wait_s > 0 else "respond-async"}


def target(path: str, query: Mapping[str, str]) -> str:
    """Path and query as one."""
    return f"{path}?{urlencode(query)}" if query else path


def segment(text: str, what: str) -> str:
    """One segment of a path; those that a path takes for something else cannot name a thing."""
    if not is_segment(text):
        raise NotFound(f"no {what} {text!r}")
    return quote(text, safe="")


def is_segment(text: str) -> bool:
    """Whether a text can be one segment of a path."""
    return text.strip(".") != "" and "/" not in text
