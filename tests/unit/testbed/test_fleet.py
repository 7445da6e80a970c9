from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import yaml

from testbed import inventory, playbook, reservations
from testbed.containers import fleet
from testbed.containers.podman import Machine
from testbed.errors import FleetError
from testbed.farm import Farm

ROOT = Path(__file__).parent.parent.parent.parent
FILES = sorted(
    [ROOT / "demo" / "fleet.toml", ROOT / "tests" / "system" / "fleet.toml", *ROOT.glob("molecule/*/fleet.toml")]
)


def test_fleets_share_nothing_and_can_run_at_the_same_time() -> None:
    fleets = [fleet.load(path) for path in FILES]
    assert len(fleets) >= 3
    for key in ("prefix", "state", "ipv4", "ipv6"):
        assert len({getattr(one, key) for one in fleets}) == len(fleets)
    names = [name for one in fleets for name in one.names()]
    assert len(set(names)) == len(names)


def test_addresses_read_alike_in_both_families() -> None:
    demo = fleet.load(ROOT / "demo" / "fleet.toml")
    assert (demo.address(11), demo.address6(11)) == ("10.91.7.11", "fd91:7::11")
    assert demo.explorer_url == "http://10.91.7.5:8080/api/v1"


def test_a_typo_in_a_fleet_file_names_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text((ROOT / "demo" / "fleet.toml").read_text().replace("resolved", "resolve"))
    with pytest.raises(FleetError, match=r"fleet.toml: .*resolve"):
        fleet.load(path)


def test_inventory_has_all_that_preflight_asks_for() -> None:
    demo = fleet.load(ROOT / "demo" / "fleet.toml")
    seed = Path("/fleet/farmer.seed")
    group = yaml.safe_load(inventory.render(demo, Farm(1, 7, "some words", seed)))["gateways"]
    assert group["vars"]["gateway_farm_id"] == 1
    assert group["vars"]["gateway_farm_seed"] == str(seed)
    assert Path(group["vars"]["gateway_farm_program"]).name == "tfgateway"
    assert group["vars"]["ansible_port"] == 34022
    assert group["hosts"]["tf-gateway-demo-01"] == {
        "ansible_host": "10.91.7.11",
        "identity_words": "some words",
        "identity_threebot_id": 7,
    }
    assert group["hosts"]["tf-gateway-demo-02"] == {"ansible_host": "10.91.7.12"}


def test_at_an_open_explorer_nobody_admits_the_nodes() -> None:
    cutover = fleet.load(ROOT / "molecule" / "cutover" / "fleet.toml")
    assert cutover.open_registration
    group = yaml.safe_load(inventory.render(cutover, Farm(1, 7, "some words", None)))["gateways"]
    assert not {"gateway_farm_seed", "gateway_farm_program"} & group["vars"].keys()


def test_managed_domains_follow_the_naming_rule() -> None:
    node = fleet.load(ROOT / "demo" / "fleet.toml").nodes[0]
    assert reservations.managed_domain(node) == "tfgw-demo-01.gateway.example"


@pytest.mark.parametrize("number", [0, 1])
def test_a_fresh_host_has_the_operators_key_and_a_resolver(number: int) -> None:
    demo = fleet.load(ROOT / "demo" / "fleet.toml")
    files = fleet._node_files(demo, demo.nodes[number], "ssh-ed25519 AAAA")
    with tarfile.open(fileobj=io.BytesIO(files)) as archive:
        members = {member.name: member for member in archive}
        keys = archive.extractfile("root/.ssh/authorized_keys")
        assert keys is not None
        assert keys.read() == b"ssh-ed25519 AAAA"
    assert members["root/.ssh"].mode == 0o700
    assert members["etc/resolv.conf"].issym() is demo.nodes[number].resolved


def test_engine_settings_stay_below_what_the_machine_allows() -> None:
    hybrid = Machine(unified_cgroups=False, systemd=False, open_files=20000, processes=30000)
    assert 'default_ulimits = ["nofile=20000:20000", "nproc=30000:30000"]' in hybrid.engine_settings()
    assert 'runtime = "runc"' in hybrid.engine_settings()
    assert "--systemd=false" in hybrid.init_options()
    ordinary = Machine(unified_cgroups=True, systemd=True, open_files=1048576, processes=1048576)
    assert ordinary.engine_settings() == '[engine]\nevents_logger = "file"\n'
    assert "--systemd=always" in ordinary.init_options()


def test_recap_of_a_play() -> None:
    line = "tf-gateway-demo-01 : ok=78   changed=31   unreachable=0    failed=0    skipped=14   rescued=0    ignored=0"
    assert playbook.parse_recap(line) == playbook.Recap("tf-gateway-demo-01", 78, 31, 0, 0)
    assert playbook.parse_recap("TASK [tfgrid.gateway.sshd : Ports] ****") is None
