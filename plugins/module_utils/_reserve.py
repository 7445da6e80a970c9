# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""One reservation of a user, brought to what it should be through ``tfgateway reserve``."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import ipaddress
import time

from ansible_collections.tfgrid.gateway.plugins.module_utils._daemon import DaemonError, call, text

# By type: the command that creates it, the options that it must have, and those that may be there too.
KINDS = {
    "subdomain": ("subdomain", ("domain", "ips"), ()),
    "domain_delegate": ("delegate", ("domain",), ()),
    "proxy": ("proxy", ("domain", "addr"), ("port", "port_tls")),
    "reverse_proxy": ("reverse-proxy", ("domain", "secret_file"), ()),
    "gateway4to6": ("4to6", (), ("public_key", "key_file")),
}
OWN_OPTIONS = ("domain", "ips", "addr", "port", "port_tls", "secret_file", "public_key", "key_file")
_COMPARED = ("ips", "addr", "port", "port_tls", "public_key")
_ALIVE = ("pending", "deployed")
_LOOK_AGAIN = 0.5  # seconds


def problem(params):
    """What is wrong with the module's options; empty when nothing is."""
    _command, needed, possible = KINDS[params["type"]]
    given = [name for name in OWN_OPTIONS if params[name] not in (None, [])]
    surplus = [name for name in given if name not in needed + possible]
    if surplus:
        return "%s: not for a %s" % (", ".join(surplus), params["type"])
    if params["state"] == "absent":
        return "domain is missing" if "domain" in needed and not params["domain"] else ""
    missing = [name for name in ("node",) + needed if params[name] in (None, [], "")]
    if missing:
        return "missing for a %s: %s" % (params["type"], ", ".join(missing))
    if params["type"] == "gateway4to6" and bool(params["public_key"]) == bool(params["key_file"]):
        return "name public_key or key_file"
    return ""


def comparable(members):
    """Members of a reservation in one form: addresses as Python writes them, in order, only what is comparable."""
    found = {}
    for name in _COMPARED:
        value = members.get(name)
        if value not in (None, []):
            found[name] = (
                sorted(map(_address, value)) if name == "ips" else _address(value) if name == "addr" else value
            )
    return found


def _address(value):
    try:
        return str(ipaddress.ip_address("%s" % value))
    except ValueError:
        return value


class Reservations(object):
    """The reservations of one user at one explorer. Every method: errors: DaemonError."""

    def __init__(self, run_command, params, clock=time):
        self._run_command = run_command
        self._params = params
        self._clock = clock
        self._reserve = [params["program"], "reserve", "--explorer", params["explorer"], "--seed", params["seed"]]

    def matching(self):
        """Those that live and have the type, the name and (if it is given) the gateway of the options."""
        params = self._params
        name = (params["domain"] or "").lower()
        return [
            line
            for line in self._ask("list")
            if line["type"] == params["type"]
            and line["domain"].lower() == name
            and line["status"] in _ALIVE
            and params["node"] in (None, "", line["node_id"])
        ]

    def wanted(self):
        """Members that the reservation is to have, as far as they can be compared."""
        members = dict(self._params)
        if self._params["type"] == "proxy":
            members["port"] = 80 if members["port"] is None else members["port"]
            members["port_tls"] = 443 if members["port_tls"] is None else members["port_tls"]
        return comparable(members)

    def same(self, line):
        """Whether a reservation is as wanted, as far as anybody can see: a secret or a private key is not compared."""
        wanted = self.wanted()
        return {name: comparable(line["data"]).get(name) for name in wanted} == wanted

    def create(self):
        """The new reservation's id."""
        params = self._params
        command, needed, possible = KINDS[params["type"]]
        words = ["create", command, "--node", params["node"]]
        for name in needed + possible:
            if name == "ips":
                words += ["--ip=%s" % address for address in params["ips"]]
            elif params[name] is not None:
                words.append("--%s=%s" % (name.replace("_", "-"), params[name]))
        if params["description"]:
            words.append("--description=%s" % params["description"])
        if params["pool"]:
            words.append("--pool=%d" % params["pool"])
        return self._ask(*words)["id"]

    def delete(self, lines):
        """Sign the deletion of each; with ``wait`` until the gateways have removed them."""
        ids = [line["id"] for line in lines]
        self._ask("delete", *map(str, ids))
        if not self._params["wait"]:
            return
        deadline = self._clock.time() + self._params["timeout"]
        while True:
            left = {line["id"]: line["status"] for line in self._ask("list", "--all")}
            waiting = [number for number in ids if left.get(number, "deleted") not in ("deleted", "failed")]
            if not waiting:
                return
            if self._clock.time() > deadline:
                raise DaemonError(
                    "not removed after %g s: %s" % (self._params["timeout"], ", ".join(map(str, waiting)))
                )
            self._clock.sleep(_LOOK_AGAIN)

    def deployed(self, number):
        """The reservation, with ``wait`` once the gateway has deployed it."""
        if self._params["wait"]:
            return self._ask("wait", str(number), "--timeout=%g" % self._params["timeout"])[0]
        return [line for line in self._ask("list") if line["id"] == number][0]

    def wireguard(self, number):
        """Configuration for wg-quick, without the private key."""
        return text(self._run_command, self._reserve + ["wireguard", str(number)])

    def _ask(self, *words):
        return call(self._run_command, self._reserve + list(words))
