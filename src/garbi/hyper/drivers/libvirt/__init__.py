"""Virtual machines through libvirt, at any of its URIs: QEMU on this host or another, or libvirt's own mock."""

from garbi.hyper.drivers.libvirt.driver import LibvirtDriver

__all__ = ["LibvirtDriver"]
