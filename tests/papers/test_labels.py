import pytest
import torch

from longtail.errors import InputError
from longtail.papers.labels import chosen_labels, labels_of, panel_title
from longtail.report.classes import Classes

CLASSES = Classes.grouped(
    ("ant", "bee", "cat", "dog", "eel", "fox", "gnu"), torch.tensor([9, 300, 40, 500, 60, 4, 200])
)


def test_by_default_the_middle_class_of_each_group_is_taken():
    # many: dog 500, bee 300, gnu 200; medium: eel 60, cat 40; few: ant 9, fox 4
    assert chosen_labels(None, CLASSES) == [1, 2, 5]


def test_a_group_without_a_class_gets_no_panel():
    classes = Classes.grouped(("ant", "bee"), torch.tensor([500, 3]))
    assert chosen_labels(None, classes) == [0, 1]


def test_named_classes_keep_their_order():
    assert chosen_labels(["gnu", "ant"], CLASSES) == [6, 0]


def test_bad_names_are_refused():
    with pytest.raises(InputError, match="there is no class 'beee'; did you mean bee"):
        labels_of(["beee"], CLASSES)
    with pytest.raises(InputError, match="each class can be given once"):
        labels_of(["bee", "bee"], CLASSES)
    with pytest.raises(InputError, match="room for 1 to 6 classes, not 7"):
        chosen_labels(CLASSES.names, CLASSES)
    with pytest.raises(InputError, match="room for 1 to 6 classes, not 0"):
        chosen_labels([], CLASSES)


def test_a_panel_names_the_class_its_group_and_its_images():
    assert panel_title(3, CLASSES) == "dog\nmany, 500 images"
    long = Classes.grouped(("a" * 40, "b"), torch.tensor([5, 4]))
    assert len(panel_title(0, long).splitlines()[0]) == 22
