"""``tfgateway identity`` as a process: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tfgateway.identity import seedfile
from tfgateway.identity.words import seed_from_words

SEED = bytes(range(32))


def run(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from tfgateway.cli.main import main; main()", "identity", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def test_show_prints_the_public_side_only(tmp_path: Path, known: dict[str, Any]) -> None:
    path = tmp_path / "seed"
    seedfile.create(path, SEED, 7)
    done = run("show", "--seed", path, "--json")
    assert json.loads(done.stdout) == {
        "seed_file": str(path),
        "node_id": known["gateway"]["node_id"],
        "public_key": known["gateway"]["public_key"],
        "tid": 7,
    }
    text = run("show", "--seed", path).stdout
    assert known["gateway"]["node_id"] in text
    for secret in (SEED.hex(), *known["gateway"]["words"].split()[-3:]):
        assert secret not in text + done.stdout


def test_show_reads_the_seed_file_of_the_settings(tmp_path: Path, known: dict[str, Any]) -> None:
    seedfile.create(tmp_path / "seed", SEED)
    config = tmp_path / "gateway.toml"
    config.write_text(f'[identity]\nseed = "{tmp_path / "seed"}"\n')
    command = [sys.executable, "-c", "from tfgateway.cli.main import main; main()", "--config", str(config)]
    done = subprocess.run([*command, "identity", "show", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["node_id"] == known["gateway"]["node_id"]
    assert json.loads(done.stdout)["tid"] is None


def test_show_tells_whose_words_they_are(known: dict[str, Any]) -> None:
    done = run("show", "--words-from", "-", "--json", stdin=known["gateway"]["words"])
    assert json.loads(done.stdout)["node_id"] == known["gateway"]["node_id"]
    both = run("show", "--words-from", "-", "--seed", "/etc/identity.seed")
    assert (both.returncode, both.stdout) == (2, "")


@pytest.mark.parametrize("source", ["file", "-"])
def test_generate_from_words(tmp_path: Path, known: dict[str, Any], source: str) -> None:
    path, words = tmp_path / "seed", known["user"]["words"] + "\n"
    (tmp_path / "words").write_text(words)
    chosen = "-" if source == "-" else tmp_path / "words"
    done = run("generate", "--output", path, "--tid", "7", "--words-from", chosen, "--json", stdin=words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["node_id"] == known["user"]["node_id"]
    assert path.read_text() == known["user"]["seed_file"]
    assert path.stat().st_mode & 0o777 == 0o400
    assert "mammal" not in done.stdout + done.stderr


def test_generate_at_random_shows_the_words_only_when_asked(tmp_path: Path) -> None:
    quiet = run("generate", "--output", tmp_path / "one", "--json")
    assert "words" not in json.loads(quiet.stdout)
    loud = run("generate", "--output", tmp_path / "two", "--json", "--show-words")
    assert seed_from_words(json.loads(loud.stdout)["words"]) == seedfile.load(tmp_path / "two").seed
    assert seedfile.load(tmp_path / "one") != seedfile.load(tmp_path / "two")


def test_generate_refuses_to_overwrite(tmp_path: Path) -> None:
    (tmp_path / "seed").write_text("precious")
    done = run("generate", "--output", tmp_path / "seed", "--show-words")
    assert done.returncode == 1
    assert done.stderr == f"tfgateway: error: {tmp_path / 'seed'}: exists already and is not overwritten\n"
    assert done.stdout == ""
    assert (tmp_path / "seed").read_text() == "precious"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("abandon " * 12, "a mnemonic has 24 words, not 12"),
        ("sécret " * 24, "the words are not plain English text"),
        ("abandon " * 24, "the checksum of the mnemonic is wrong: a word is misspelt or misplaced"),
    ],
)
def test_generate_from_wrong_words_is_one_line_and_no_file(tmp_path: Path, words: str, reason: str) -> None:
    done = run("generate", "--output", tmp_path / "seed", "--words-from", "-", stdin=words)
    assert (done.returncode, done.stderr) == (1, f"tfgateway: error: {reason}\n")
    assert not (tmp_path / "seed").exists()


def test_wrong_usage_is_exit_code_2(tmp_path: Path) -> None:
    assert run("generate").returncode == 2
    assert run("generate", "--output", tmp_path / "seed", "--tid", "-1").returncode == 2
    assert run("show", "--seed", tmp_path / "absent").returncode == 1
