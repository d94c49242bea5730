"""Which of several controllers on one database leads: its loops work, those of the others rest."""

from garbi.iaas.leadership.leadership import Leadership as Leadership
from garbi.iaas.leadership.mandate import Mandate as Mandate
from garbi.iaas.leadership.mandate import Office as Office
from garbi.iaas.leadership.mandate import Superseded as Superseded
