"""An event: who did what to which thing of the cloud, when, and why."""

from garbi.iaas_api.events import Event as Event
from garbi.iaas_api.events import Subject as Subject
