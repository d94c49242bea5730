"""The contract as OpenAPI: what /openapi.json answers and docs/openapi-hyper.json records.

`python -m garbi.hyper.rest.openapi > docs/openapi-hyper.json` renews the record.
"""

from __future__ import annotations

import json
import sys

DESCRIPTION = (
    "The agent of one host: virtual machines and containers under one set of verbs. Every error is problem details "
    "(RFC 9457) with a stable `code`. Lists take `field=value`, several of which are AND, `limit` and `marker`."
)


def record() -> str:
    """The committed form of the document."""
    from garbi.hyper.rest.app import assemble

    return json.dumps(assemble().openapi(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(record())
