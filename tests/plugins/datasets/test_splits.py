import pytest

from hebm_plugins.datasets.splits import by_hash, hold_out

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
