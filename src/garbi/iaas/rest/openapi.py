"""The contract as OpenAPI: what /openapi.json answers and docs/openapi-iaas.json records.

`python -m garbi.iaas.rest.openapi > docs/openapi-iaas.json` renews the record.
"""

from __future__ import annotations

import json
import sys

DESCRIPTION = (
    "The controller of a cloud: nodes, images and machines, virtual ones and containers under one set of verbs. Every "
    "error is problem details (RFC 9457) with a stable `code`. Lists take `field=value`, several of which are AND, `limit` "
    "and `marker`. What takes time is an operation, which says how far it is."
)


def record() -> str:
    """The committed form of the document."""
    from garbi.iaas.rest.app import assemble

    return json.dumps(assemble().openapi(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(record())
