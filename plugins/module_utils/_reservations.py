# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""What ``tfgateway state`` says about reservations, chosen and put in words."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

VERDICTS = ["in_sync", "pending", "missing", "drifted", "orphaned", "failed", "unreported", "target_down"]
SHOWN = 10  # reservations that a message names


def select(reservations, ids):
    """Those of ``reservations`` (list of dicts) whose id is in ``ids`` (all when empty), and the ids not found."""
    if not ids:
        return list(reservations), []
    known = {item["id"]: item for item in reservations}
    return [known[name] for name in ids if name in known], [name for name in ids if name not in known]


def count(reservations):
    """Number of reservations by verdict, only the verdicts that occur."""
    summary = {}
    for item in reservations:
        summary[item["verdict"]] = summary.get(item["verdict"], 0) + 1
    return summary


def sentence(reservations):
    """For example ``3 reservations: 2 in_sync, 1 pending``."""
    summary = count(reservations)
    words = ["%d %s" % (summary[verdict], verdict) for verdict in VERDICTS if verdict in summary]
    noun = "reservation" if len(reservations) == 1 else "reservations"
    return "%d %s%s" % (len(reservations), noun, ": " + ", ".join(words) if words else "")


def describe(item):
    """One reservation in a line: id, type, domain, verdict and the daemon's message."""
    line = "%s %s %s is %s" % (item["id"], item["type"], item["domain"], item["verdict"])
    return "%s (%s)" % (line, item["message"]) if item.get("message") else line


def listing(items):
    """The first of ``items``, and how many more there are."""
    lines = [describe(item) for item in items[:SHOWN]]
    more = len(items) - len(lines)
    return "; ".join(lines + (["and %d more" % more] if more else []))
