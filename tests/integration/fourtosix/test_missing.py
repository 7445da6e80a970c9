"""Where the tests of 4to6 cannot run: they say why, and CI's own machine does not do without them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
REASON = "ip is not installed" if os.geteuid() == 0 else "network namespaces need root"


@pytest.mark.parametrize("ci", ["", "true"])
def test_what_is_missing_is_told_and_is_an_error_for_root_in_ci(tmp_path: Path, ci: str) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/integration/fourtosix", "-k", "tunnel"]
    environment = {**os.environ, "PATH": str(tmp_path), "CI": ci}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert REASON in ended.stdout
    if ci and os.geteuid() == 0:
        assert ended.returncode == 1
        assert "SKIPPED" not in ended.stdout
    else:
        assert ended.returncode == 0
        assert "SKIPPED" in ended.stdout
