"""``python -m tests.bench [PART ...]``: measures; exit code 1 when a figure exceeds its limit."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable

PARTS = (
    "amplification",
    "dns",
    "explorer",
    "explorer_scale",
    "hostile",
    "reconciler",
    "mirror",
    "proxy",
    "services",
    "soak",
    "tunnel",
    "tunnel_distance",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure parts of the gateway.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} [default: all]")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size, to try the script itself")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    kept = True
    for part in arguments.parts or PARTS:
        measure: Callable[[float], bool] = importlib.import_module(f"tests.bench.{part}").measure
        kept = measure(arguments.scale) and kept
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
