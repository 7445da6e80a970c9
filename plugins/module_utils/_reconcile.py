# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""A gateway's plan, and how it comes to be carried out."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import time

from ansible_collections.tfgrid.gateway.plugins.module_utils._daemon import DaemonError, ask

_LOOK_AGAIN = 1.0  # seconds


def lines(steps):
    """Steps in words, one a line."""
    return "".join("%s\n" % describe(step) for step in steps)


def describe(step):
    """For example ``repair 311-1 subdomain www.gw1.example of user 7``."""
    what = " ".join(step[name] for name in ("action", "id", "type", "domain") if step[name])
    return "%s of user %s" % (what, step["user"]) if step["user"] else what


def consented(plan):
    """The steps of a plan that want an operator's consent; a daemon of before has no orphans among them."""
    return plan["held_steps"] + plan.get("orphans", [])


class Reconciler(object):
    """Every method: errors: DaemonError."""

    def __init__(self, run_command, params, clock=time):
        self._run_command = run_command
        self._params = params
        self._clock = clock

    def plan(self):
        """What a pass would do now."""
        return self._ask("--dry-run")

    def repair(self):
        """Have it done: by the reconciler that runs, or by a pass of our own where none does."""
        deadline = self._clock.time() + self._params["timeout"]
        refusal = ""
        if self._params["allow_removals"]:
            self._ask("--allow-removals")
        while True:
            try:
                self._ask("--once", *(["--allow-removals"] if self._params["allow_removals"] else []))
            except DaemonError as error:  # usually: another reconciler holds the lease, and does it itself
                refusal = str(error)
            left = self.plan()
            steps = left["steps"] + (consented(left) if self._params["allow_removals"] else [])
            if not steps:
                return
            if self._clock.time() > deadline:
                some = "; ".join(describe(step) for step in steps[:5])
                raise DaemonError("left after %g s: %s. %s" % (self._params["timeout"], some, refusal))
            self._clock.sleep(_LOOK_AGAIN)

    def _ask(self, *options):
        return ask(self._run_command, self._params, ["reconcile"] + list(options))
