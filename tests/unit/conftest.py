"""The collection is importable as ``ansible_collections.tfgrid.gateway``, from the tree itself."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINK = ROOT / ".ansible" / "collections" / "ansible_collections" / "tfgrid" / "gateway"

if not LINK.exists():
    raise RuntimeError(f"{LINK} is not there: run `make setup`")
sys.path.insert(0, str(LINK.parents[2]))
