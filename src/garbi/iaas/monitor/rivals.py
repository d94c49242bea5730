"""What is said of nodes that obey another controller than this one, though nobody else has written to its database. No I/O.

Then the database is older than what nodes remember (it was restored from a backup), or a controller runs on a copy of it.
"""

from __future__ import annotations

RIVAL = "it obeys another controller: "
"""How the reason of such a node begins."""

MEND = (
    "this database is older than the cloud, as after a restore from a backup, or another controller runs on a copy of it; "
    "nothing is ordered or fenced here. If no other controller runs: stop this one, and start it once with: iaas serve "
    "--after-restore"
)


def rival_reason(said: str, term: int) -> str:
    """Why nothing is ordered on a node that said that, when a controller in that `term` renewed its lease."""
    return f"{RIVAL}{said}, and the term of this one is {term}; {MEND}"
