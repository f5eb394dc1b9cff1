import hashlib

import pytest

from hebm_plugins.datasets.splits import by_hash, hold_out, hold_out_numbers

NAMES = [f"{kind}/{i:04d}.png" for kind in "ab" for i in range(200)]


def test_the_first_of_sorted_classes_are_a_fair_sample():
    first = [NAMES[i][0] for i in by_hash(NAMES)[:100]]
    assert 30 < first.count("a") < 70


def test_the_order_depends_on_names_alone():
    backwards = NAMES[::-1]
    assert [NAMES[i] for i in by_hash(NAMES)] == [backwards[i] for i in by_hash(backwards)]


@pytest.mark.parametrize(("n", "fraction", "held"), [(400, 0.1, 40), (2, 0.1, 1), (2, 0.9, 1), (1, 0.5, 0), (50, 0, 0)])
def test_hold_out_parts_are_disjoint_and_complete(n, fraction, held):
    train, test = (hold_out(NAMES[:n], fraction, split) for split in ("train", "test"))
    assert len(test) == held
    assert sorted(train + test) == list(range(n))


def test_the_order_is_that_of_the_hashes():
    assert by_hash(NAMES) == sorted(range(len(NAMES)), key=lambda i: hashlib.sha256(NAMES[i].encode()).digest())


@pytest.mark.parametrize("split", ["train", "test"])
def test_numbers_are_held_out_as_their_names_are(split):
    assert hold_out_numbers(50, 0.1, split).tolist() == sorted(hold_out([str(i) for i in range(50)], 0.1, split))
