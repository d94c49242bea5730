"""The XML of a domain: whatever a user writes stays text, and what XML cannot hold is refused."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garbi.base.errors import InvalidField
from garbi.hyper.drivers.libvirt.capabilities import Virtualisation
from garbi.hyper.drivers.libvirt.domain_xml import (
    NAMESPACE,
    Backing,
    Domain,
    Reservation,
    domain_xml,
    reservation_of,
)
from garbi.hyper.model.image import ImageType

MACHINE, LABEL = f"{{{NAMESPACE}}}machine", f"{{{NAMESPACE}}}label"
PLAIN = Domain(
    name="garbi-01234567-web",
    uuid="8e6ea1d6-5c5f-4a92-a5f0-a6cbf8c0a001",
    cluster_id="0123456789abcdef0123456789abcdef",
    machine_id="web",
    user_name="web",
    mem=256,
    cpus=2,
    virtualisation=Virtualisation("qemu", "a reason"),
    disk="/data/pool/web.qcow2",
    backing=Backing("/data/images/tiny", ImageType.QCOW2),
    network="garbi-01234567",
    mac="52:54:00:00:00:01",
    address="10.64.0.10",
    console="/data/console/web.log",
)
TEXT_FIELDS = ("name", "uuid", "cluster_id", "machine_id", "user_name", "disk", "network", "mac", "address", "console")
ELEMENTS = ("name", "uuid")  # text between tags, where XML turns a carriage return into a newline

any_text = st.text(max_size=60) | st.sampled_from(
    ["<domain/>", "]]>", "<!--", "&amp;", "\"'", "\r\n\t", "{{7*7}}", "\x00", "\x1b", "\ufffe", "\ud800", "\u2028"]
)


def elements(xml: str) -> Counter[str]:
    return Counter(element.tag for element in ET.fromstring(xml).iter())


@given(st.sampled_from(TEXT_FIELDS), any_text)
def test_any_text_in_any_field_gives_exactly_the_expected_elements_or_is_refused(field: str, text: str) -> None:
    changed = replace(PLAIN, **{field: text})
    if not is_xml_text(text) or (field in ELEMENTS and "\r" in text):
        with pytest.raises(InvalidField):
            domain_xml(changed)
        return
    assert elements(domain_xml(changed)) == elements(domain_xml(PLAIN))


@given(st.dictionaries(any_text, any_text, max_size=4), any_text)
def test_labels_and_name_come_back_as_they_went_in_and_stand_only_in_the_metadata(
    labels: dict[str, str], name: str
) -> None:
    texts = [name, *labels, *labels.values()]
    if not all(map(is_xml_text, texts)):
        with pytest.raises(InvalidField):
            domain_xml(replace(PLAIN, labels=labels, user_name=name))
        return
    tree = ET.fromstring(domain_xml(replace(PLAIN, labels=labels, user_name=name)))
    metadata = tree.find("metadata")
    assert metadata is not None
    machine = metadata.find(MACHINE)
    assert machine is not None
    assert machine.get("name") == name
    assert {label.attrib["key"]: label.attrib["value"] for label in machine.iter(LABEL)} == labels
    tree.remove(metadata)
    bare = ET.fromstring(domain_xml(PLAIN))
    bare.remove(bare.find("metadata"))  # type: ignore[arg-type]
    assert ET.tostring(tree) == ET.tostring(bare)


def test_control_characters_are_refused_with_the_name_of_the_field() -> None:
    with pytest.raises(InvalidField) as refused:
        domain_xml(replace(PLAIN, user_name="a\x07b"))
    assert refused.value.extra["field"] == "name"
    with pytest.raises(InvalidField) as refused:
        domain_xml(replace(PLAIN, labels={"key": "\x00"}))
    assert refused.value.extra["field"] == "labels"


def test_the_format_of_the_image_is_said_and_the_chain_is_closed() -> None:
    for kind in (ImageType.QCOW2, ImageType.RAW):
        disk = ET.fromstring(domain_xml(replace(PLAIN, backing=Backing("/image", kind)))).find("devices/disk")
        assert disk is not None
        assert disk.find("driver").get("type") == "qcow2"  # type: ignore[union-attr]
        assert disk.find("backingStore/format").get("type") == kind.value  # type: ignore[union-attr]
        end = disk.find("backingStore/backingStore")
        assert end is not None
        assert len(end) == 0


def test_the_shared_image_is_never_relabelled() -> None:
    label = ET.fromstring(domain_xml(PLAIN)).find("devices/disk/backingStore/source/seclabel")
    assert label is not None
    assert label.attrib == {"model": "dac", "relabel": "no"}


def test_a_full_copy_has_nothing_below_it() -> None:
    disk = ET.fromstring(domain_xml(replace(PLAIN, backing=None))).find("devices/disk")
    assert disk is not None
    end = disk.find("backingStore")
    assert end is not None
    assert len(end) == 0


def test_a_domain_has_no_display_and_no_port() -> None:
    found = elements(domain_xml(PLAIN))
    assert not found["graphics"]
    assert not found["video"]
    assert not found["channel"]


def test_the_reservation_is_read_back_from_the_domain() -> None:
    assert reservation_of(domain_xml(PLAIN)) == Reservation("web", "52:54:00:00:00:01", "10.64.0.10")
    assert reservation_of(domain_xml(replace(PLAIN, mac=None))) is None
    assert reservation_of("<domain/>") is None


def is_xml_text(text: str) -> bool:
    """Whether XML 1.0 can hold the text (production 2, Char)."""
    return all(
        character in "\t\n\r"
        or "\x20" <= character <= "\ud7ff"
        or "\ue000" <= character <= "\ufffd"
        or character > "\uffff"
        for character in text
    )
