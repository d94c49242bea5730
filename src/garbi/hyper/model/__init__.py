"""The words of one host as values: machines, images, ports, hosts. No I/O, no clock."""
