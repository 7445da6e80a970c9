"""``python -m tests.bench.dns``: this part alone, with a choice of rounds, kinds of queries and peers."""

from __future__ import annotations

import argparse
import sys

from tests.bench import dns
from tests.bench.dns import questions, servers


def _several(text: str) -> list[str]:
    return [item for item in text.split(",") if item]


def main() -> int:
    kinds = [kind.name for kind in questions.KINDS]
    parser = argparse.ArgumentParser(prog="python -m tests.bench.dns", description=dns.__doc__)
    parser.add_argument("--rounds", type=int, default=dns.ROUNDS)
    parser.add_argument("--seconds", type=float, default=dns.SECONDS, help="of one server in one round")
    parser.add_argument("--kinds", type=_several, default=kinds, help=f"of {','.join(kinds)}")
    parser.add_argument("--peers", type=_several, default=list(servers.PEERS), help=f"of {','.join(servers.PEERS)}")
    parser.add_argument("--extras", type=_several, default=dns.EXTRAS, help=f"of {','.join(dns.EXTRAS)}; '' for none")
    chosen = parser.parse_args()
    kept = dns.run(
        rounds=chosen.rounds, seconds=chosen.seconds, kinds=chosen.kinds, peers=chosen.peers, extras=chosen.extras
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
