import pytest
import torch

from hebm_plugins.datasets.label_arrays import complaints_about, names_of

CLASSES = torch.tensor([0, 2, 1, 0])
BITS = torch.tensor([[0, 1], [1, 1], [0, 0], [1, 0]])


def test_names_are_those_stated_or_numbers():
    assert names_of(CLASSES, ()) == (("0", "1", "2"), ())
    assert names_of(CLASSES, ("a", "b", "c", "d")) == (("a", "b", "c", "d"), ())
    assert names_of(BITS, ()) == ((), ("0", "1"))
    assert names_of(BITS, ("male", "smiling")) == ((), ("male", "smiling"))
    assert names_of(None, ()) == ((), ())


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"labels": CLASSES, "test_labels": CLASSES[:1]}, ()),
        ({"labels": CLASSES}, ("a", "b", "c", "never used")),
        ({"labels": CLASSES[:2]}, ("a", "b", "c")),
        ({"labels": BITS, "test_labels": BITS[:1]}, ()),
        ({"labels": BITS[:, :1]}, ("male",)),
        ({}, ()),
    ],
)
def test_labels_that_fit_have_no_complaint(labels, names):
    assert complaints_about(labels, names) == []


@pytest.mark.parametrize(
    ("labels", "names", "complaint"),
    [
        ({"test_labels": CLASSES}, (), "test_labels is given without labels"),
        ({}, ("a",), "label_names is given without labels"),
        ({"labels": CLASSES, "test_labels": BITS}, (), "labels (4,), test_labels (4, 2)"),
        ({"labels": BITS, "test_labels": BITS[:, :1]}, (), "the same attributes"),
        ({"labels": CLASSES}, ("a", "b", "a"), "'a' is given twice"),
        ({"labels": CLASSES - 1}, (), "labels: the lowest is -1; number the classes from 0"),
        ({"labels": torch.tensor([0, 1, 7])}, (), "run from 0 to 7, but no image has label 2; give label_names"),
        ({"labels": torch.tensor([1, 2])}, (), "no image has label 0"),
        ({"labels": CLASSES}, ("a", "b"), "labels: the highest is 2, but the 2 classes are 0 to 1"),
        ({"labels": CLASSES, "test_labels": CLASSES + 1}, (), "test_labels: the highest is 3, but the 3 classes"),
        ({"labels": BITS}, ("male",), "1 name(s) for 2 column(s)"),
        ({"labels": BITS[:, :1]}, (), "pass labels[:, 0] for classes, or label_names for one attribute"),
        ({"labels": BITS[:, :0]}, (), "no column"),
        ({"labels": torch.eye(3, dtype=torch.int64)}, (), "pass labels.argmax(1)"),
    ],
)
def test_labels_that_could_mean_two_things_or_none_are_refused(labels, names, complaint):
    found = complaints_about(labels, names)
    assert len(found) == 1
    assert complaint in found[0]
