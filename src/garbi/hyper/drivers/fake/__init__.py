"""A driver that pretends: for users' own tests, for simulated fleets, for the faults that no real daemon has on order.

Machines are records of a pretended daemon. By default that daemon lives in the process, one per cluster id, so that a
second driver of the same cluster adopts what the first one made. With `persist` it is a SQLite file in the driver's data
directory: then machines outlive a killed agent, and another process can play with them by `FakeWorld.at`. Settings:

| setting | meaning |
|---|---|
| `delay_s` | seconds that each verb but `stop` and `observe` takes, and that a machine needs to end after `stop` |
| `<verb>_delay_s` | the same for one verb (also `observe`); `stop_delay_s=inf`: machines do not listen to `stop` |
| `faults` | `verb[@machine]:times:code,...`: the next calls fail; `times` may be `*`; `code` is an error's code |
| `unavailable` | `true`: the daemon does not answer |
| `persist` | `true`: keep the machines in a file |
| `engine` | the daemon to use: a directory with `persist`, else any name; default: the driver's own |

Any image will do, also one that is not on this host. Content that begins with `garbi-fake corrupt` is refused as corrupt.
"""

from garbi.hyper.drivers.fake.driver import FakeDriver
from garbi.hyper.drivers.fake.machine import FakeMachine
from garbi.hyper.drivers.fake.world import FakeWorld

__all__ = ["FakeDriver", "FakeMachine", "FakeWorld"]
