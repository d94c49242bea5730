"""The values of a cloud: nodes, images, machines, operations, events. No I/O, no clock."""
