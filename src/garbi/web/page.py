"""/docs: the contract on one page that loads nothing from anywhere else."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from garbi.web.listing import takes

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #223; }
@media (prefers-color-scheme: dark) { body { background: #16181d; color: #dde; } pre { background: #23262e; } }
h2 { margin-top: 2.5rem; font-size: 1.1rem; border-top: 1px solid #8884; padding-top: 1rem; }
h2 b { display: inline-block; min-width: 5rem; color: #0a7d4f; } code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: #f3f4f6; padding: .75rem; overflow: auto; border-radius: 6px; } table { border-collapse: collapse; }
td { padding: .15rem 1rem .15rem 0; vertical-align: top; }
nav a { display: block; text-decoration: none; color: inherit; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

router = APIRouter()


@router.get("/docs", include_in_schema=False, dependencies=[Depends(takes())])
def docs(request: Request) -> HTMLResponse:
    """The contract, to be read by people."""
    return HTMLResponse(render(request.app.openapi()), headers={"Content-Security-Policy": POLICY})


def render(document: dict[str, Any]) -> str:
    """An OpenAPI document as HTML."""
    info = document["info"]
    operations = [(path, method, each) for path, item in document["paths"].items() for method, each in item.items()]
    index = "".join(f'<a href="#{_anchor(path, method)}">{_head(path, method)}</a>' for path, method, _ in operations)
    body = "".join(_operation(document, path, method, each) for path, method, each in operations)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{_prose(info['description'])}</p>"
        f'<p>For programs: <a href="/openapi.json">/openapi.json</a></p><nav>{index}</nav>{body}</body></html>'
    )


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    rows = [_parameter(each) for each in operation.get("parameters", [])]
    answers = [_answer(status, each) for status, each in operation["responses"].items()]
    return (
        f'<h2 id="{_anchor(path, method)}">{_head(path, method)}</h2><p>{_prose(operation.get("description", ""))}</p>'
        + (f"<table>{''.join(rows)}</table>" if rows else "")
        + _example("asks", document, operation.get("requestBody", {}))
        + f"<table>{''.join(answers)}</table>"
        + "".join(_example("answers", document, each) for key, each in operation["responses"].items() if key < "300")
    )


def _parameter(parameter: dict[str, Any]) -> str:
    where = f"{parameter['in']}{', required' if parameter.get('required') else ''}"
    about = parameter.get("description", "")
    return f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{escape(where)}</td><td>{_prose(about)}</td></tr>"


def _answer(status: str, response: dict[str, Any]) -> str:
    return f"<tr><td>{escape(status)}</td><td>{_prose(response['description'])}</td></tr>"


def _example(label: str, document: dict[str, Any], holder: dict[str, Any]) -> str:
    for media, content in holder.get("content", {}).items():
        schema = content.get("schema", {})
        is_list = schema.get("type") == "array"
        name = str((schema["items"] if is_list else schema).get("$ref", "")).rpartition("/")[2]
        examples = document["components"]["schemas"].get(name, {}).get("examples", [])
        if examples:
            shown = [examples[-1]] if is_list else examples[-1]
            return f"<p>{label} <code>{escape(media)}</code></p><pre>{escape(json.dumps(shown, indent=2))}</pre>"
    return ""


def _head(path: str, method: str) -> str:
    return f"<b>{escape(method.upper())}</b> <code>{escape(path)}</code>"


def _anchor(path: str, method: str) -> str:
    return escape(method + path.replace("/", "-").replace("{", "").replace("}", ""))


def _prose(text: str) -> str:
    """Text whose `code` is marked."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
