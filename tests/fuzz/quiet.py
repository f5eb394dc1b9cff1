"""Settings of every fuzz test: the same examples each time, without limits of time for one of them."""

from hypothesis import HealthCheck

QUIET = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}
