"""What hosts of repositories and git run is what a person runs: targets of the Makefile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from tools.tree import ROOT

TARGETS = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
MAKE = re.compile(r"(?:sudo (?:--preserve-env=[A-Z_]+ )?)?make ([a-z-]+)")


def commands() -> Iterator[str]:
    """Of all workflows and hooks."""
    for path in sorted((ROOT / ".github" / "workflows").iterdir()):
        workflow: dict[str, Any] = yaml.safe_load(path.read_text())
        for job in workflow["jobs"].values():
            yield from (step["run"] for step in job["steps"] if "run" in step)
    for repository in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]:
        assert repository["repo"] == "local"  # nothing is downloaded
        yield from (hook["entry"] for hook in repository["hooks"])


def test_each_is_a_target_of_the_makefile() -> None:
    found = list(commands())
    assert {"sudo make test", "sudo make test-fast", "make lint"} <= set(found)
    targets = [match[1] if (match := MAKE.fullmatch(command)) else command for command in found]
    assert set(targets) <= set(TARGETS)
