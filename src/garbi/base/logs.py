"""How the services log: one line an event on standard error, `time level event key=value …`, values quoted where needed.

The standard library's logging, with the fields of an event in `extra`: a log line costs no further import.
"""

from __future__ import annotations

import json
import logging
import sys
import time

PLAIN = logging.LogRecord("", 0, "", 0, "", (), None).__dict__.keys() | {"message", "asctime", "taskName"}
"""What every record has; the rest are the fields of the event."""


class EventFormatter(logging.Formatter):
    """A record as one line; a traceback follows it, indented."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        fields = {key: value for key, value in record.__dict__.items() if key not in PLAIN}
        pairs = [f"{key}={_shown(str(value))}" for key, value in fields.items()]
        line = " ".join([self.formatTime(record), record.levelname.lower(), _one_line(record.getMessage()), *pairs])
        if record.exc_info:
            lines = self.formatException(record.exc_info).split("\n")
            line += "".join(f"\n    {_one_line(each)}" for each in lines)
        return line


def configure(level: int = logging.INFO) -> None:
    """Log to standard error from now on, every event of at least `level`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(EventFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _shown(value: str) -> str:
    """A value that stays one word, whatever a user wrote in it."""
    return value if value.isalnum() or value.replace("-", "").replace(".", "").isalnum() else json.dumps(value)


def _one_line(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)
