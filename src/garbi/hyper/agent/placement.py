"""Chooses what a new machine is made from and by which driver, where the user left it open."""

from __future__ import annotations

from dataclasses import dataclass

from garbi.base.errors import DriverUnavailable, InvalidField, UnknownImage
from garbi.hyper.drivers.protocol import AnyImage, RegistryPuller
from garbi.hyper.drivers.registry import DriverRegistry
from garbi.hyper.model.image import Image
from garbi.hyper.model.machine import MachineSpec
from garbi.hyper.store.images import ImageTable


@dataclass(frozen=True, slots=True)
class ImageChoice:
    """The driver, and the digest of the content; empty when the driver needs none."""

    type: str
    sha256: str


class Placement:
    """From a specification to a driver and a content that it can use."""

    def __init__(self, drivers: DriverRegistry, images: ImageTable) -> None:
        self._drivers = drivers
        self._images = images

    def choose(self, spec: MachineSpec) -> ImageChoice:
        """Raises UnknownImage, UnknownType, DriverUnavailable, or InvalidField when the driver cannot use the image."""
        image = self._images.get(spec.image)
        if image is not None:
            return ImageChoice((spec.type and self._checked(spec.type, image)) or self._type_for(image), image.sha256)
        if spec.type is not None and isinstance(self._drivers.get(spec.type), AnyImage):
            return ImageChoice(spec.type, "")
        if "/" in spec.image:
            return self._pulled(spec)
        raise self._unknown(spec.image)

    def _checked(self, type_name: str, image: Image) -> str:
        driver = self._drivers.get(type_name)
        if image.type in driver.image_types:
            return type_name
        usable = sorted(driver.image_types)
        fitting = [each.name for each in self._images.list() if each.type in driver.image_types]
        hint = f"; images for it here: {', '.join(fitting)}" if fitting else ""
        raise InvalidField(
            "type",
            f"image {image.name} is of type {image.type}; {type_name} runs {', '.join(usable)}{hint}",
            allowed=usable,
        )

    def _type_for(self, image: Image) -> str:
        """The first driver made for this format; drivers that take anything are asked for by name only."""
        for name in self._drivers.names():
            try:
                driver = self._drivers.get(name)
            except DriverUnavailable:
                continue
            if image.type in driver.image_types and not isinstance(driver, AnyImage):
                return name
        raise InvalidField(
            "type", f"no driver of this host runs images of type {image.type}", allowed=self._drivers.names()
        )

    def _pulled(self, spec: MachineSpec) -> ImageChoice:
        names = [spec.type] if spec.type is not None else self._drivers.names()
        for name in names:
            try:
                driver = self._drivers.get(name)
            except DriverUnavailable:
                continue
            if isinstance(driver, RegistryPuller):
                return ImageChoice(name, driver.pull(spec.image))
        raise self._unknown(spec.image)

    def _unknown(self, name: str) -> UnknownImage:
        known = [image.name for image in self._images.list()]
        shown = ", ".join(known) if known else "none yet; `hyper images build tiny` makes one"
        return UnknownImage("image", f"no image is called {name[:80]!r}; there are: {shown}", allowed=known)
