from hebm.evaluation.kinds import KINDS


def test_every_kind_is_found_by_its_name_and_has_a_title_of_its_own():
    assert all(kind.name == name for name, kind in KINDS.items())
    assert len({kind.title for kind in KINDS.values()}) == len(KINDS)
