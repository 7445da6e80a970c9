"""Every step of a reload fails in every way that its manual page knows, and whatever else can happen at that step.

``tests/integration/workers/test_reload_faults.py`` is the short form.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import failing
from tests.support.faults import Fault, faults

pytest_plugins = ("tests.integration.conftest", "tests.integration.workers.conftest")


pytestmark = pytest.mark.parametrize("rigs", [(2, 2)], indirect=True, ids=["two workers"])


def test_each_error_of_each_step(rigs: Any) -> None:
    steps = rigs.steps()
    chosen = faults(steps, every=True)
    outcomes = rigs.try_out(chosen)
    print(f"{len(steps)} steps of a reload, {len(chosen)} errors tried out: {dict(outcomes)}")  # noqa: T201


def test_each_event_at_each_step(rigs: Any) -> None:
    """A worker that dies, a release or a configuration that goes away: before each system call of the reload."""
    steps = [step for step in rigs.steps() if step.startswith("reload ")]
    chosen = [Fault(step, event) for step in steps for event in failing.EVENTS]
    outcomes = rigs.try_out(chosen)
    print(f"{len(steps)} steps of a reload, {len(chosen)} events tried out: {dict(outcomes)}")  # noqa: T201


def test_each_number_of_descriptors(rigs: Any) -> None:
    """A supervisor that can open no more than so many: not one call fails, but all that come."""
    tried = rigs.run_out_of_descriptors()
    print(f"a reload fails with less than {tried} descriptors left")  # noqa: T201
    assert tried >= 3
