"""A host's own words, fit to be shown: what came from a stranger, shortened, without what steers a terminal, without secrets."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

MAX_LENGTH = 2000
HIDDEN = "(hidden)"
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_SAYING = ("msg", "stderr", "module_stderr", "stdout", "module_stdout", "reason", "exception")


def clean(text: object, secrets: tuple[str, ...] = ()) -> str:
    """The text without control characters and without the secrets; of what is too long, the beginning and the end."""
    plain = _ESCAPES.sub("", str(text)[: MAX_LENGTH * 100])
    for secret in filter(None, secrets):
        plain = plain.replace(secret, HIDDEN)
    lines = ("".join(c for c in line if unicodedata.category(c)[0] != "C").rstrip() for line in plain.splitlines())
    kept = "\n".join(line for line in lines if line)
    if len(kept) <= MAX_LENGTH:
        return kept
    half = MAX_LENGTH // 2
    return f"{kept[:half]}\n…\n{kept[-half:]}"


def of_result(result: Any, secrets: tuple[str, ...] = ()) -> str:
    """What the result of an Ansible task says about its failure, the plainest first, nothing twice."""
    if not isinstance(result, dict):
        return clean(result, secrets)
    said: list[str] = []
    for key in _SAYING:
        words = clean(result.get(key) or "", secrets)
        if words and not any(words in earlier for earlier in said):
            said.append(words)
    if len(said) > 1 and said[0] in ("non-zero return code", "MODULE FAILURE"):
        said = said[1:]
    return clean("\n".join(said), secrets) or "it gave no reason"
