"""``python -m tools.wording``: words that code and prose do without, each with the term to use instead.

It looks at the daemon, at roles, playbooks and plugins, and at the documentation. A word counts in prose and as a part
of an identifier (``_tell_all``, ``CrewMember``). Exit code 1 when any is found, or when an exception is not needed any
more.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from tools.tree import ROOT

PACKAGE = Path("files/gateway_daemon/src/tfgateway")
COLLECTION = [Path(name) for name in ("roles", "playbooks", "plugins", "docs")]
_GENERATED = Path("docs/reference")
_SUFFIXES = {".py", ".yml", ".md", ".j2"}
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
    ("roles/cutover/README.md", "former"): (1, "name of a command that is deployed"),
    ("roles/cutover/tasks/compare.yml", "former"): (1, "name of a command that is deployed"),
    (f"{PACKAGE}/cli/legacy.py", "former"): (2, "name of a command that is deployed"),
    (f"{PACKAGE}/cli/main.py", "former"): (1, "name of a command that is deployed"),
    (f"{PACKAGE}/dns/server/metrics.py", "told"): (1, "help text of a metric that is deployed"),
    (f"{PACKAGE}/tunnel/links/messages.py", "parcel"): (
        1,
        "tag of a message that older releases read",
    ),
    (f"{PACKAGE}/workers/handover.py", "desk"): (1, "field of the hand-over file, which older releases read"),
    (f"{PACKAGE}/workers/handover.py", "doors"): (1, "field of the hand-over file, which older releases read"),
    (f"{PACKAGE}/workers/reload/config_test.py", "rehearsal"): (
        1,
        "environment variable of older releases",
    ),
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


def problems(root: Path, trees: Iterable[Path], allowed: Mapping[tuple[str, str], tuple[int, str]]) -> list[str]:
    """A line for each word that is not allowed, and for each exception that does not fit any more.

    trees: relative to ``root``, as are the files of ``allowed``.
    """
    lines = []
    counts: Counter[tuple[str, str]] = Counter()
    for path in sorted(path for tree in trees for path in (root / tree).rglob("*") if path.suffix in _SUFFIXES):
        name = path.relative_to(root)
        if name.is_relative_to(_GENERATED):
            continue
        for number, word in found(path.read_text()):
            counts[name.as_posix(), word] += 1
            if (name.as_posix(), word) not in allowed:
                lines.append(f"{name}:{number}: '{word}': write {INSTEAD[word]}")
    for (file, word), (count, _) in allowed.items():
        if counts[file, word] != count:
            lines.append(f"{file}: '{word}' stands there {counts[file, word]} times, allowed are {count}")
    return lines


def main() -> int:
    """Exit code; it prints each problem on a line."""
    lines = problems(ROOT, [PACKAGE, *COLLECTION], ALLOWED)
    for line in lines:
        print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
