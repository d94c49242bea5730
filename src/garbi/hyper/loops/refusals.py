"""Which refusals of a step are final by their nature, so that repeating it would only hide them from who waits."""

from __future__ import annotations

from garbi.base.errors import AbilityMissing, Conflict, GarbiError, InvalidField, NotFound, PortTaken
from garbi.hyper.converge import Step


def is_final(step: Step, error: GarbiError) -> bool:
    """Whether the same step will be refused again however often it is repeated, until somebody changes something.

    What an engine says while it starts, or of a disk or a port that others have now, is not final. A name that something else
    has is: nobody knows whose it is, and it is not ours to wait for.
    """
    if isinstance(error, InvalidField | NotFound | AbilityMissing):
        return True
    return step is Step.ADD and isinstance(error, Conflict) and not isinstance(error, PortTaken)
