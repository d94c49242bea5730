"""A driver in a distribution of its own, as small as one can be: a machine is a note, its last line is its condition."""

from garbi.base.errors import NotFound
from garbi.base.names import check_name
from garbi.hyper.drivers.protocol import Condition, DriverInfo, Observation
from garbi.hyper.model.image import ImageType


class NotesDriver:
    image_types = frozenset(ImageType)
    takes_any_image = True  # an ability: machines can be made from a name alone

    def __init__(self, context):
        self._notes = context.data_dir / context.cluster_id

    def info(self):
        return DriverInfo("notes", available=True, version="1")

    def prepare(self, image):
        self._notes.mkdir(exist_ok=True)

    def add(self, machine):
        if [seen.condition for seen in self.observe(machine.id)] in ([], [Condition.PARTIAL]):
            self._note(machine.id).write_text(f"{machine.mem} {machine.cpus}\nstopped\n")

    def start(self, machine_id):
        if not self.observe(machine_id):
            raise NotFound(f"there is no note of {machine_id}")
        self._write_down(machine_id, Condition.RUNNING)

    def stop(self, machine_id):
        self._write_down(machine_id, Condition.STOPPED)

    kill = stop

    def remove(self, machine_id):
        self._note(machine_id).unlink(missing_ok=True)

    def observe(self, machine_id=None):
        notes = self._notes.glob("*") if machine_id is None else [self._note(machine_id)]
        lines = {note.name: note.read_text().split() for note in notes if note.exists()}
        return [Observation(name, Condition(text[-1]) if text else Condition.PARTIAL) for name, text in lines.items()]

    def watch(self, notify):
        pass  # nothing ends by itself on paper

    def close(self):
        pass

    def _note(self, machine_id):
        return self._notes / check_name("id", machine_id)

    def _write_down(self, machine_id, condition):
        if any(seen.condition not in (condition, Condition.PARTIAL) for seen in self.observe(machine_id)):
            with self._note(machine_id).open("a") as note:
                note.write(f"{condition}\n")
