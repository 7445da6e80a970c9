"""Applies the wanted state to the WireGuard interface of this gateway, through ``wg`` and ``ip``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from tfgateway.errors import GatewayError, ProgramError
from tfgateway.fourtosix import link, peers
from tfgateway.fourtosix.peers import Present
from tfgateway.fourtosix.pool import AddressPool
from tfgateway.programs import run
from tfgateway.wireguard_key import encode_key


@dataclass(frozen=True, slots=True)
class Interface:
    """The interface, whether it is there already or not. It outlives this process, and with it all tunnels."""

    name: str
    listen_port: int
    pool: AddressPool
    log: FilteringBoundLogger

    async def converge(self, wanted: Mapping[str, str], *, current: bool) -> Mapping[str, Present]:
        """Add what is missing and correct what differs; the peers that the interface has then.

        wanted: address by public key. current: they are what redis names; else they may be old, and the peers that the
        interface has stay as they are. A change that fails does not keep the others. Errors: ``GatewayError``.
        """
        device = await self._device()
        if (device.public_key, device.listen_port) != (encode_key(self.pool.public_key), self.listen_port):
            await self._configure()
        await self._link()
        present = device.peers
        if not current:
            wanted, present = peers.missing(wanted, present), {}
        changes = peers.commands(self.name, wanted, present)
        if not changes:
            return device.peers
        failures = [failure for command in changes if (failure := await self._change(command))]
        if failures:
            raise GatewayError("; ".join(failures))
        added, removed = len(wanted.keys() - present.keys()), len(present.keys() - wanted.keys())
        self.log.info("peers changed", added=added, removed=removed, peers=len(wanted))
        return (await self._device()).peers

    async def _configure(self) -> None:
        # Through a pipe: every user can read a command line, and a file would stay (C-3).
        key = encode_key(self.pool.private_key).encode()
        port = str(self.listen_port)
        await run("wg", "set", self.name, "listen-port", port, "private-key", "/dev/stdin", secret=key)
        self.log.info("interface configured", interface=self.name, listen_port=self.listen_port)

    async def _link(self) -> None:
        present = link.parse_link(await run("ip", "-json", "address", "show", "dev", self.name))
        rules = link.rule_commands(self.name, self.pool.gateway.network, await run("ip", "-6", "rule", "show"))
        for command in [*rules, *link.commands(self.name, self.pool.gateway, present)]:
            await run("ip", *command)

    async def _device(self) -> peers.Device:
        try:
            return peers.parse_dump(await self._dump())
        except ProgramError as missing:
            try:
                await self._create()
            except ProgramError as error:
                raise GatewayError(f"there is no WireGuard interface {self.name} ({missing}): {error}") from error
        return peers.parse_dump(await self._dump())

    async def _dump(self) -> bytes:
        return await run("wg", "show", self.name, "dump")

    async def _create(self) -> None:
        """Create the interface: by the kernel, or else by wireguard-go, which outlives this process."""
        try:
            await run("ip", "link", "add", "dev", self.name, "type", "wireguard")
        except ProgramError as refusal:
            try:
                await run("wireguard-go", self.name)
            except ProgramError as error:
                raise ProgramError(f"{refusal}; {error}") from error
        self.log.info("interface created", interface=self.name)

    async def _change(self, command: tuple[str, ...]) -> str:
        try:
            await run("wg", *command)
        except ProgramError as error:
            return str(error)
        return ""
