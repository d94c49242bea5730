"""The program that looks into an image: run alone in a sandbox, it reads one file and prints one line of JSON.

    python -m garbi.content.inspector TYPE MAX_BYTES FILE

`{"virtual_size": N}` when the content is what TYPE says, `{"field": …, "rejected": …}` when it is not.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from garbi.base.errors import ImageRejected
from garbi.content.container_images import inspect_container
from garbi.content.disks import inspect_disk
from garbi.content.tarballs import inspect_rootfs
from garbi.hyper_api.vocabulary import ImageType


def look_into(path: Path, type: ImageType, max_bytes: int) -> int:
    """The bytes that the content unfolds to; raises ImageRejected."""
    if type is ImageType.DOCKER:
        return inspect_container(path, max_bytes)
    if type is ImageType.ROOTFS:
        return inspect_rootfs(path, max_bytes)
    return inspect_disk(path, type.value, max_bytes)


def main(arguments: list[str]) -> None:
    declared, max_bytes, path = ImageType(arguments[0]), int(arguments[1]), Path(arguments[2])
    try:
        verdict: dict[str, object] = {"virtual_size": look_into(path, declared, max_bytes)}
    except ImageRejected as error:
        verdict = {"field": error.extra["field"], "rejected": error.detail}
    except MemoryError:
        verdict = {"field": "file", "rejected": "looking into the file takes more memory than an honest one needs"}
    except (ImportError, OSError):
        raise  # the host is at fault, not the file
    except Exception as error:  # whatever a stranger's file makes fail is a reason not to take it
        verdict = {"field": "file", "rejected": f"the file cannot be made sense of ({type(error).__name__})"}
    print(json.dumps(verdict))


if __name__ == "__main__":
    main(sys.argv[1:])
