"""Every command that a page of this repository shows is run by a test, or it is said here why not."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tools.tree import ROOT

_LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
PAGES = [ROOT / name for name in _LISTED.split()]
_BLOCK = re.compile(r"^ *```(\S*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_OPENING = ROOT / "docs" / "reference" / "playbooks.md"  # a playbook's opening comment shows commands as text
_STARTS = re.compile(
    r" *(\.venv/bin/\S+|ansible(-[a-z]+)?|make|tfgateway|systemctl|pip|python|cp|install|git|curl|dig) "
)
PLAYBOOK = ".venv/bin/ansible-playbook"
NOTES = "molecule/default/tests/test_playbooks.py"
CUTOVER = "molecule/cutover/tests/test_cutover.py"
EXPLORER = "tests/support/explorer_host.py"
UPGRADE = "molecule/upgrade/tests/test_upgrade.py"
CHECKS = "tools/check.py"

# Command, without what follows its first option -> (file that runs it, words by which it does).
RUN_BY = {
    "make demo": ("tests/system/test_demo.py", "demo"),
    "make demo-down": ("tests/system/test_demo.py", "down"),
    "make setup": ("Makefile", "setup:"),  # what every other target begins with
    f"{PLAYBOOK} site.yml": ("testbed/playbook.py", "site.yml"),
    ".venv/bin/ansible gateways": ("testbed/proofs.py", "tfgrid.gateway.reservation_state"),
    f"{PLAYBOOK} playbooks/status.yml": (NOTES, '"status"'),
    f"{PLAYBOOK} playbooks/reconcile.yml": (NOTES, '"reconcile"'),
    f"{PLAYBOOK} playbooks/backup.yml": (NOTES, '"backup"'),
    f"{PLAYBOOK} playbooks/restore.yml": (NOTES, '"restore"'),
    f"{PLAYBOOK} playbooks/remove.yml": (NOTES, '"remove"'),
    ".venv/bin/tfgateway backup": (NOTES, '"generate-key"'),
    f"{PLAYBOOK} playbooks/upgrade.yml": (UPGRADE, '"upgrade"'),
    f"{PLAYBOOK} playbooks/rollback.yml": (UPGRADE, '"rollback"'),
    f"{PLAYBOOK} playbooks/cutover.yml": (CUTOVER, '"cutover"'),
    f"{PLAYBOOK} playbooks/cutover_back.yml": (CUTOVER, '"cutover_back"'),
    "ansible-galaxy collection install": ("tests/support/artefact.py", '"install"'),
    "ansible-playbook tfgrid.gateway.doctor": ("tests/integration/collection/test_controller.py", '"doctor"'),
    "ansible-playbook tfgrid.gateway.site": (NOTES, '"site"'),
    "tfgateway reconcile": ("tests/integration/reconciler/test_process.py", '"--release-domain"'),
    "redis-cli DBSIZE": ("molecule/default/tests/test_reservations.py", '"redis-cli", "DBSIZE"'),
    "ln": (
        "molecule/default/tests/test_host.py",
        '"ln -sfn open.conf /etc/tfredis/access.conf',
    ),
    "tfgateway redis": ("tests/integration/reconciler/disasters/test_redis_command.py", '"redis", word'),
    "make lint": (".pre-commit-config.yaml", "make lint"),
    "make test-fast": (CHECKS, '"fast"'),
    "make test": (CHECKS, '"all"'),
    "make test-long": (CHECKS, '"long"'),
    "make test-distributions": (CHECKS, '"distributions"'),
    "make release": ("tests/support/artefact.py", "release.build("),
    ".venv/bin/pytest tests/unit/daemon/dns/answer/test_lookup.py": ("tools/parts.py", '"pytest"'),
    ".venv/bin/molecule test": ("tools/parts.py", '"molecule", "test"'),
    ".venv/bin/python": (CHECKS, '"tools.reference"'),
    "ansible-playbook playbooks/explorer.yml": (EXPLORER, "explorer.yml"),
    "ansible-playbook tfgrid.gateway.backup": (NOTES, '"backup"'),
    "ansible-playbook tfgrid.gateway.restore": (NOTES, '"restore"'),
    "tfgateway backup generate-key": (NOTES, '"generate-key"'),
    "tfgateway explorer backup": ("tests/integration/explorer/test_service.py", '"explorer", "backup"'),
    "tfgateway explorer acknowledge-restore": (
        "tests/integration/explorer/test_process.py",
        '"explorer", "acknowledge-restore"',
    ),
    "tfgateway explorer migrate": ("tests/integration/explorer/test_process.py", '"explorer", "migrate"'),
    "pg_dump": ("tests/unit/daemon/explorer/server/test_given_ids.py", '"pg_dump"'),
    "pg_restore": ("tests/unit/daemon/explorer/server/test_given_ids.py", '"pg_restore"'),
    "tfgateway explorer unpin": ("tests/integration/explorer/test_reserve.py", '"explorer", "unpin"'),
    "tfgateway info": ("tests/integration/reconciler/test_group.py", '"info", "--serving"'),
    "tfgateway identity unpin": ("tests/integration/explorer/test_reserve.py", '"identity", "unpin"'),
    "tfgateway reserve dns-key": ("tests/integration/reconciler/updates/test_clients.py", '"dns-key"'),
    "tfgateway reserve record": ("tests/integration/reconciler/updates/test_clients.py", '"record"'),
    "tfgateway reserve": ("tests/integration/explorer/test_reserve.py", '"create"'),
    "certbot certonly": ("tests/integration/reconciler/updates/test_clients.py", '"certbot"'),
    "lego": ("tests/integration/reconciler/updates/test_clients.py", '"lego"'),
    "nsupdate": ("tests/integration/reconciler/updates/test_clients.py", '"nsupdate"'),
    "tfgateway tunnel": ("tests/integration/proxy/test_ipv6.py", 'tfgateway("tunnel"'),
}
NOT_RUN = {
    "cp inventory.example.yml inventory.yml": "the production addresses are for people",
    ".venv/bin/ansible-vault encrypt_string": "a command of Ansible that asks for a password",
    f"{PLAYBOOK} playbooks/preflight.yml": "it asks the public DNS; its rules are run by unit tests and scenario prod",
    "pip install uv mnemonic dnspython": "tests have them from requirements/dev.lock",
    "make bench": "figures for people: a measurement on a busy machine is no test",
    "make lock": "it asks the package index for newer versions: another result every day",
    ".venv/bin/antsibull-changelog release": "it uses the fragments up; `make test` lints them",
    "install": "a program of the operating system; tests/unit/daemon/tunnel/test_command.py reads the unit",
    "printf": "the same",
    "set": "the shell's own; tests/unit/roles/gateway/test_units.py knows which file it reads",
    "umask": "the same",
    ". ./tfgateway.env": "the shell's own; the test reads the file as the shell does",
    "systemctl": "the same; units that roles install are started in the molecule scenarios",
    "cd /var/lib/tfgateway-explorer && rm": "the same; test_explorer_service.py starts a restored copy",
}


def commands() -> list[str]:
    """Each once, without its comment, and without its options and their values."""
    found = []
    for page, language, block in blocks():
        if language == "console" or page == _OPENING:
            for line in block.splitlines():
                words = re.split(r" #|   ", line.strip())[0].split()
                end = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
                found.append(" ".join(words[:end]))
    return sorted(set(found) - {""})


def blocks() -> list[tuple[Path, str, str]]:
    """Page, language and content of each fenced block."""
    return [(page, language, block) for page in PAGES for language, block in _BLOCK.findall(page.read_text())]


def test_commands_are_in_blocks_of_commands() -> None:
    """Else nobody would look for the test that runs them."""
    others = [(page, block) for page, language, block in blocks() if language != "console" and page != _OPENING]
    assert [(page.name, line) for page, block in others for line in block.splitlines() if _STARTS.match(line)] == []


@pytest.mark.parametrize("command", commands())
def test_it_is_run_or_it_is_said_why_not(command: str) -> None:
    known = next((known for known in (*NOT_RUN, *RUN_BY) if command == known or command.startswith(f"{known} ")), None)
    assert known is not None, "say in this file which test runs it"
    if known in RUN_BY:
        where, words = RUN_BY[known]
        assert words in (ROOT / where).read_text()


def test_the_reference_names_every_role_and_plugin() -> None:
    roles = (ROOT / "docs" / "reference" / "role-variables.md").read_text()
    plugins = (ROOT / "docs" / "reference" / "plugins.md").read_text()
    files = (
        path for kind in ("filter", "inventory", "lookup", "modules") for path in (ROOT / "plugins" / kind).glob("*.py")
    )
    assert [path.name for path in (ROOT / "roles").iterdir() if f"\n## {path.name}\n" not in roles] == []
    assert [path.stem for path in files if f"\n### `tfgrid.gateway.{path.stem}`\n" not in plugins] == []


def test_nothing_is_listed_that_no_page_shows() -> None:
    shown = commands()
    assert [one for one in (*RUN_BY, *NOT_RUN) if not any(f"{line} ".startswith(f"{one} ") for line in shown)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
