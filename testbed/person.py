"""Someone who uses the explorer as people do: with words, a tid, and the command line ``tfgateway``."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tfgateway.identity import seedfile, words

from testbed.containers.fleet import Fleet
from testbed.errors import FleetError
from testbed.paths import VENV_BIN


def own_words(path: Path) -> str:
    """The 24 words in ``path``; made up when there is no such file. Keep such a file on paper, not on a disk."""
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.touch(mode=0o600)
        partial.write_text(words.words_from_seed(seedfile.generate_seed()) + "\n")
        partial.rename(path)
    return path.read_text().strip()


class Person:
    """A user of the fleet's explorer; the key is kept in the fleet's state directory."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.name = name
        self.words = fleet.directory / f"{name}.words"
        self.seed = fleet.directory / f"{name}.seed"
        self._explorer = fleet.explorer_url

    @property
    def tid(self) -> int:
        """The explorer's id of a registered person."""
        return seedfile.load(self.seed).tid or 0

    def register(self) -> None:
        """Register at the explorer, once. Errors: ``FleetError``."""
        if self.seed.exists():
            return
        own_words(self.words)
        key = self.seed.with_suffix(".key")
        if not key.exists():
            tfgateway("identity", "generate", "--output", str(key), "--words-from", str(self.words), "--json")
        who = ("--name", self.name, "--email", f"{self.name}@people.example")
        tfgateway(*self._reserve(key), "register", *who, "--output", str(self.seed), "--json")

    def reserve(self, *arguments: str) -> Any:
        """``tfgateway reserve ...`` as this person; its JSON. Errors: ``FleetError``."""
        return tfgateway(*self._reserve(self.seed), *arguments, "--json")

    def _reserve(self, seed: Path) -> tuple[str, ...]:
        return ("reserve", "--explorer", self._explorer, "--seed", str(seed))


def tfgateway(*arguments: str) -> Any:
    """Run the command line; the JSON that it prints. Errors: ``FleetError`` with the command's own words."""
    done = subprocess.run(
        [str(VENV_BIN / "tfgateway"), *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise FleetError(f"tfgateway {arguments[0]} failed: {said[-1].removeprefix('tfgateway: error: ')}")
    return json.loads(done.stdout)
