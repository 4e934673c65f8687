"""Storage SOP classes by the words people use for them."""

import pytest
from pydicom._uid_dict import UID_dictionary

from engine.dictionary.sop_class_names import sop_class_name, sop_classes_named
from engine.dictionary.sop_classes import STORAGE_SOP_CLASSES
from engine.settings.values import check_sop_classes


@pytest.mark.parametrize("uid", STORAGE_SOP_CLASSES)
def test_the_table_is_the_standards(uid: str) -> None:
    name, kind, *_ = UID_dictionary[uid]
    assert (STORAGE_SOP_CLASSES[uid], kind) == (name, "SOP Class")
    assert sop_classes_named(uid) == (uid,)
    (named,) = sop_classes_named(name)
    assert named == uid or UID_dictionary[uid][3] == "Retired"
    assert STORAGE_SOP_CLASSES[named] == name
    assert check_sop_classes(name) == name, "what has a name can be accepted"


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("CT", ["CT Image Storage"]),
        ("enhanced ct", ["Enhanced CT Image Storage"]),
        ("PT", ["Positron Emission Tomography Image Storage"]),
        ("US", ["Ultrasound Image Storage", "Ultrasound Multi-frame Image Storage"]),
        ("Basic Text SR", ["Basic Text SR Storage"]),
        ("1.2.392.200036.9125.1.1.2", ["1.2.392.200036.9125.1.1.2"]),
    ],
)
def test_what_words_mean(word: str, names: list[str]) -> None:
    assert [sop_class_name(uid) for uid in sop_classes_named(word)] == names


def test_groups_have_what_they_say() -> None:
    images = set(sop_classes_named("all-images"))
    everything = set(sop_classes_named("all-storage"))
    assert everything == STORAGE_SOP_CLASSES.keys()
    assert images < everything
    assert set(sop_classes_named("CT") + sop_classes_named("VL Photographic")) <= images
    assert not images & set(sop_classes_named("Encapsulated PDF") + sop_classes_named("PR"))


@pytest.mark.parametrize("word", ["", "CTX", "all", "1.2.", "CT Image Storage 2"])
def test_what_nothing_is_called(word: str) -> None:
    with pytest.raises(ValueError, match="is neither a UID nor"):
        sop_classes_named(word)


def test_services_are_no_storage() -> None:
    with pytest.raises(ValueError, match="neither a storage SOP class"):
        check_sop_classes("1.2.840.10008.5.1.4.1.2.2.1")
