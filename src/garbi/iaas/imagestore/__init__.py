"""The images of a cloud: taken in once, checked, kept by their digest, and brought to the nodes that need them."""

from __future__ import annotations

from garbi.iaas.imagestore.distribution import Distribution as Distribution
from garbi.iaas.imagestore.store import ImageRows as ImageRows
from garbi.iaas.imagestore.store import ImageStore as ImageStore
