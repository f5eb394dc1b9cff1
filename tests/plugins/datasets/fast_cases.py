"""The checks of a data set in this process."""

from hebm.testing import cases


def in_this_process(data):
    """Return the checks of a data set, without the slow one that starts another process."""
    return [case for case in cases(data) if "other-process" not in str(case)]
