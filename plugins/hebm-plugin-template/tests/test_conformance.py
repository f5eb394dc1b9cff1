"""The plugin keeps every promise of the interface."""

from hebm.testing import cases, parametrize

from hebm_quadratic_tilt.prior import QuadraticTilt


@parametrize(cases(QuadraticTilt()))
def test_conformance(check):
    check()
