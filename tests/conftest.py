"""Settings of all tests: how fast the machine is decides none of them."""

import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def untraced() -> Iterator[None]:
    """Keeps coverage, when it is measured, from watching a test that does the same a million times:
    that costs several times what the test does. pytest-cov's own mark does nothing in workers."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)
