"""``make demo`` and ``make demo-down``: the main job on this machine, shown while it happens."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo import checks, visitors
from testbed import assembly, playbook, proofs, reservations
from testbed.containers import fleet, image
from testbed.containers.fleet import Fleet
from testbed.errors import FleetError
from testbed.paths import ROOT
from testbed.person import Person
from testbed.progress import Progress
from testbed.proofs import Proof


def up(wanted: Fleet, console: Console) -> None:
    """Everything, from nothing or from wherever an earlier run stopped. Errors: ``FleetError``."""
    checks.root()  # before anything is written that root would own
    progress = Progress(console, wanted.directory / "logs")
    with progress.step("this machine"):
        checks.run(wanted)
    assembly.nodes(wanted, progress)
    release = assembly.services(wanted, progress)
    with progress.step(" ".join(playbook.command(wanted)), log="site") as step:
        recaps = playbook.run(wanted, step)
        step.note(", ".join(f"{recap.host}: changed={recap.changed}" for recap in recaps))
    alice = Person(wanted, "alice")
    with progress.step("alice registers at the explorer") as step:
        alice.register()
        step.note(f"tid {alice.tid}, her 24 words are in {wanted.state}/{alice.words.name}")
    with progress.step("gateways in the explorer's directory") as step:
        node_ids = reservations.registered(wanted, alice)
        step.note(", ".join(node_ids.values()))
    reservations.tunnel_secret(wanted).parent.mkdir(exist_ok=True)
    for group in reservations.wanted(wanted):
        with progress.step(
            f"reserved and deployed: {', '.join(f'{item.kind} {item.domain}'.strip() for item in group)}"
        ) as step:
            made, found = reservations.make(alice, group, node_ids)
            step.note(", ".join([f"{made} made"] * bool(made) + [f"{found} there already"] * bool(found)))
    assembly.home(wanted, release, progress)
    answers: list[tuple[Proof, str]] = []
    with progress.step("proof from the outside") as step:
        for proof in proofs.proofs(wanted):
            step.live(proof.typed)
            answers.append((proof, proofs.prove(proof)))
        step.note(f"{len(answers)} of {len(answers)} as reserved")
    with progress.step("every worker of the proxy is replaced while people visit the page behind the tunnel") as step:
        step.note(reload_under_visitors(wanted))
    _summary(console, answers)
    (tunnel,) = [line["id"] for line in alice.reserve("list") if line["type"] == "gateway4to6"]
    _what_next(console, wanted, node_ids[wanted.nodes[0].name], tunnel)
    console.print(f"The fleet is up, after {progress.seconds:.0f} s. [bold]make demo-down[/] removes it.")


def down(wanted: Fleet, console: Console) -> None:
    """Remove containers, network, state and images. Errors: ``FleetError``."""
    checks.root()
    fleet.remove(wanted)
    image.remove({node.system for node in wanted.nodes})
    console.print(f"Removed: containers and network {wanted.prefix}, {wanted.state}/, the node image.")


def reload_under_visitors(wanted: Fleet) -> str:
    """What the visitors say. Errors: ``FleetError`` when one was not served."""
    first = wanted.nodes[0]
    certificate = str(ROOT / proofs.home_certificate(wanted))
    with visitors.visiting(wanted.address(first.host), reservations.HOME, certificate) as visits:
        for _ in range(2):
            done = playbook.ad_hoc(
                wanted, first.name, "-m", "ansible.builtin.systemd_service", "-a", "name=tfgateway-proxy state=reloaded"
            )
            if done.returncode != 0:
                raise FleetError(f"tfgateway-proxy cannot be reloaded: {done.stdout.strip()}")
    if visits.failures:
        raise FleetError(f"{visits} while the proxy was reloaded; the first: {visits.failures[0]}")
    return str(visits)


def _summary(console: Console, answers: list[tuple[Proof, str]]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("asked", "answered"):
        table.add_column(column, overflow="fold", header_style="bold")
    for proof, answer in answers:
        table.add_row(proof.title, escape(answer))
    console.print()
    console.print(table)


def _what_next(console: Console, wanted: Fleet, node_id: str, tunnel: int) -> None:
    first = wanted.nodes[0]
    at, domain = wanted.address(first.host), reservations.managed_domain(first)
    name = f"you.{domain}"
    ssh = f"ssh -F {wanted.state}/ssh_config {first.name}"
    key = reservations.wireguard_key(wanted).relative_to(ROOT)
    reserve = f".venv/bin/tfgateway reserve --explorer {wanted.explorer_url} --seed {wanted.state}/alice.seed"
    farmer = f".venv/bin/tfgateway reserve --explorer {wanted.explorer_url} --seed {wanted.state}/farmer.seed"
    on = f"-i {wanted.state}/inventory.yml"
    lines = [
        ("ask the name server yourself", f"dig @{at} www.{domain}"),
        ("what alice has reserved", f"{reserve} list"),
        (
            "reserve another name, and ask for it",
            f"{reserve} create subdomain --domain {name} --ip 203.0.113.7 --node {node_id}",
        ),
        ("", f"dig @{at} {name} +short"),
        ("the gateways that the farm admits", f"{farmer} farm list --farm 1"),
        ("her IPv6 address over WireGuard, for wg-quick", f"{reserve} wireguard {tunnel} --key-file {key}"),
        ("empty redis: all is served again within a pass", f"{ssh} redis-cli FLUSHALL"),
        ("stop redis: what is known is served on; start it again", f"{ssh} systemctl stop tfredis"),
        ("", f"{ssh} systemctl start tfredis"),
        ("provision again: changed=0", " ".join([".venv/bin/ansible-playbook", *playbook.command(wanted)[1:]])),
        ("the gateways' own account", f".venv/bin/ansible {on} gateways -m tfgrid.gateway.reservation_state"),
        ("roll another release out, and back", "echo '# mine' >> files/gateway_daemon/src/tfgateway/errors.py"),
        ("", f".venv/bin/ansible-playbook playbooks/upgrade.yml {on}"),
        ("", f".venv/bin/ansible-playbook playbooks/rollback.yml {on}"),
    ]
    console.print("\n[bold]What to try next[/]")
    for title, line in lines:
        if title:
            console.print(f"  [dim]# {title}[/]")
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    console.print()
