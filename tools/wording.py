"""``python -m tools.wording``: words that the daemon's code and prose do without, each with the term to use instead.

A word counts in prose and as a part of an identifier (``_tell_all``, ``CrewMember``). Exit code 1 when any is found, or
when an exception is not needed any more.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tools.tree import ROOT

PACKAGE = ROOT / "files" / "gateway_daemon" / "src" / "tfgateway"
_REPORT = "report, notify, send, say"
_OBSERVE = "receive, observe, be notified"
_PERSON = "it for a connection, process or program; they for a person"
INSTEAD = {
    **dict.fromkeys(("office", "offices"), "context"),
    **dict.fromkeys(("desk", "desks"), "control socket"),
    **dict.fromkeys(("crew", "crews"), "worker pool"),
    **dict.fromkeys(("phonebook", "phonebooks"), "users, user directory"),
    **dict.fromkeys(("stranger", "strangers"), "client, untrusted, or what it really is"),
    **dict.fromkeys(("rehearse", "rehearses", "rehearsed", "rehearsing", "rehearsal", "rehearsals"), "config test"),
    **dict.fromkeys(("seam", "seams"), "interface, API"),
    **dict.fromkeys(("parcel", "parcels"), "message"),
    **dict.fromkeys(("former",), "legacy, old, last"),
    **dict.fromkeys(("board", "boards"), "claims"),
    **dict.fromkeys(("seat", "seats"), "worker context"),
    **dict.fromkeys(("door", "doors"), "listening socket"),
    **dict.fromkeys(("tell", "tells", "telling", "told"), _REPORT),
    **dict.fromkeys(("hear", "hears", "hearing", "heard", "unheard"), _OBSERVE),
    **dict.fromkeys(("whoever", "whomever"), "a client, the caller, another process"),
    **dict.fromkeys(("he", "him", "his", "himself", "she", "her", "hers", "herself"), _PERSON),
}
"""Word -> what to write."""
ALLOWED = {
    ("cli/legacy.py", "former"): (2, "name of a command that is deployed"),
    ("cli/main.py", "former"): (1, "name of a command that is deployed"),
    ("dns/server/metrics.py", "told"): (1, "help text of a metric that is deployed"),
    ("tunnel/links/messages.py", "parcel"): (1, "tag of a message between workers, which older releases read"),
    ("workers/handover.py", "desk"): (1, "field of the hand-over file, which older releases read"),
    ("workers/handover.py", "doors"): (1, "field of the hand-over file, which older releases read"),
    ("workers/reload/config_test.py", "rehearsal"): (1, "environment variable that older releases set and read"),
}
"""File and word -> how often it stands there, and why it stays."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def found(text: str) -> list[tuple[int, str]]:
    """Line numbers and words, in lower case."""
    return [
        (number, word)
        for number, line in enumerate(text.splitlines(), 1)
        for word in map(str.lower, _WORD.findall(line))
        if word in INSTEAD
    ]


def problems(package: Path, allowed: Mapping[tuple[str, str], tuple[int, str]]) -> list[str]:
    """A line for each word that is not allowed, and for each exception that does not fit any more."""
    lines = []
    counts: Counter[tuple[str, str]] = Counter()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        for number, word in found(path.read_text()):
            counts[name, word] += 1
            if (name, word) not in allowed:
                lines.append(f"{path}:{number}: '{word}': write {INSTEAD[word]}")
    for (name, word), (count, _) in allowed.items():
        if counts[name, word] != count:
            lines.append(f"{package / name}: '{word}' stands there {counts[name, word]} times, allowed are {count}")
    return lines


def main() -> int:
    """Exit code; it prints each problem on a line."""
    lines = problems(PACKAGE, ALLOWED)
    for line in lines:
        print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
