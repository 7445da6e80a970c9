"""``ansible gateways -m tfgrid.gateway.reservation_state`` on a fleet in which not everything is well."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
NAME = "www.gw1.example"
MODULE = ["-m", "tfgrid.gateway.reservation_state", "-a", "program={{ program }} config={{ config }}"]


_ANSWER = re.compile(r"^(\S+) \| (\w+)!? => \n((?: {4}.*\n)+)", re.MULTILINE)


def ad_hoc(directory: Path, hosts: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """What an operator reads of each host: the outcome, and the sentence."""
    inventory = directory / "inventory.yml"
    inventory.write_text(json.dumps({"gateways": {"hosts": hosts}}))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_HOME": str(directory / "ansible"),
    }
    command = [str(Path(sys.executable).with_name("ansible")), "-i", str(inventory), "gateways", *MODULE]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "Traceback" not in done.stdout + done.stderr
    return {
        host: (outcome, yaml.safe_load(textwrap.dedent(result))["msg"])
        for host, outcome, result in _ANSWER.findall(done.stdout)
    }


def test_each_gateway_says_in_a_sentence_what_is_wrong_with_it(world: Any, free_port: Callable[[], int]) -> None:
    process = world.start()
    assert world.as_user(type="subdomain", domain=NAME, ips=["203.0.113.5"])["reservation"]["status"] == "deployed"
    process.stop()  # or it would repair what is broken here
    here = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "program": str(Path(sys.executable).with_name("tfgateway")),
        "config": str(world.config),
    }
    hosts = {
        "well": here,
        "new": {**here, "program": "/nowhere/tfgateway"},
        "down": {"ansible_host": "127.0.0.1", "ansible_port": free_port(), "program": "", "config": ""},
    }
    found = ad_hoc(world.directory, hosts)
    assert found["well"] == ("SUCCESS", "1 reservation: 1 in_sync")
    outcome, sentence = found["new"]
    assert outcome == "FAILED"
    assert "this node is not provisioned: its daemon /nowhere/tfgateway does not exist (run site.yml)" in sentence
    outcome, sentence = found["down"]
    assert outcome == "UNREACHABLE"
    assert sentence.endswith("Connection refused")

    with world.redis.client() as client:
        client.hset("gw1.example.", "www", client.hget("gw1.example.", "www").replace(b"203.0.113.5", b"203.0.113.66"))
    drifted = f"1-1 subdomain {NAME} is drifted (redis holds other rows than it should)"
    assert ad_hoc(world.directory, {"here": here})["here"] == ("FAILED", f"1 reservation: 1 drifted. {drifted}")
    with world.redis.client() as client:
        client.delete("gw1.example.")
    missing = f"1-1 subdomain {NAME} is missing (redis lacks rows of it)"
    assert ad_hoc(world.directory, {"here": here})["here"] == ("FAILED", f"1 reservation: 1 missing. {missing}")
    world.explorer.stop()
    outcome, sentence = ad_hoc(world.directory, {"here": here})["here"]
    assert outcome == "FAILED"
    assert sentence.startswith(f"1 reservation: 1 missing. {missing}. the explorer cannot be asked: ")
