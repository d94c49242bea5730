"""What a server or a guest wrote, made harmless for a terminal: no escape sequences, no control characters."""

from __future__ import annotations

import re
import unicodedata

_ESCAPES = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    "|\x1b[\\]PX^_].*?(?:\x07|\x1b\\\\|$)"  # OSC, DCS, SOS, PM, APC: titles, clipboards; to their end
    "|\x1b[ -/]*[0-~]",  # the rest: character sets, resets
    re.DOTALL,
)
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def clean(text: str, keep: str = "") -> str:
    """The text without escape sequences and control, direction and invisible characters, except those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    bare = _ESCAPES.sub("", text)
    return "".join(char for char in bare if char in keep or unicodedata.category(char) not in _HIDDEN)


def clean_log(text: str) -> str:
    """A console's output: lines and tabs stay, all else that moves a cursor goes."""
    return clean(text, keep="\n\t")
