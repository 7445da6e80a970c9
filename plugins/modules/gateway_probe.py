#!/usr/bin/python
# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: gateway_probe
short_description: Ask a gateway from outside whether it serves
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Asks as users do, from the machine that the module runs on, usually the controller by C(delegate_to).
  - DNS over UDP and TCP for the start of a zone, HTTP, TLS, and the port for tunnel clients.
  - Every question is tried again until O(timeout) has passed; fails with what did not answer.
extends_documentation_fragment:
  - tfgrid.gateway.attributes
  - tfgrid.gateway.attributes.looks
options:
  address:
    description: IP address or name of the gateway.
    type: str
    required: true
  zone:
    description: A zone that the gateway has to have, for example one of its managed domains. Empty, DNS is not asked.
    type: str
    default: ""
  dns_port:
    description: V(0) leaves DNS out.
    type: int
    default: 53
  http_port:
    description: V(0) leaves HTTP out.
    type: int
    default: 80
  tls_port:
    description: V(0) leaves TLS out.
    type: int
    default: 443
  tunnel_port:
    description: V(0) leaves it out.
    type: int
    default: 18000
  timeout:
    description: Seconds that everything together may take.
    type: float
    default: 30
"""

EXAMPLES = r"""
- name: The gateway serves, as seen from here
  tfgrid.gateway.gateway_probe:
    address: "{{ ansible_host }}"
    zone: tfgw-prod-01.gateway.tf
  delegate_to: localhost
  become: false
"""

RETURN = r"""
answers:
  description: What was asked, and what came of it; empty text is well.
  returned: always
  type: dict
  sample: {"dns/udp": "", "dns/tcp": "", "http": "", "tls": "", "tunnel": ""}
"""

import contextlib
import os
import socket
import ssl
import struct
import time

from ansible.module_utils.basic import AnsibleModule

_ATTEMPT = 3.0  # seconds for one answer
_PAUSE = 0.5
_SOA = 6
# Frames of yamux: version, type, flag (SYN asks, ACK answers), stream; the number of the ping follows.
_PING = struct.pack("!BBHI", 0, 2, 1, 0)
_PONG = struct.pack("!BBHI", 0, 2, 2, 0)


def soa_query(zone, number):
    """Bytes of a query for the start of ``zone`` (RFC 1035 section 4.1)."""
    labels = [label.encode("ascii") for label in zone.rstrip(".").split(".") if label]
    name = b"".join(struct.pack("B", len(label)) + label for label in labels) + b"\0"
    return struct.pack("!6H", number, 0, 1, 0, 0, 0) + name + struct.pack("!2H", _SOA, 1)


def check_reply(reply, number):
    """Why this is no good answer; empty: it is one."""
    if len(reply) < 12:
        return "no DNS message"
    got, flags, _questions, answers = struct.unpack("!4H", reply[:8])
    if got != number or not flags & 0x8000:
        return "not the reply to the query"
    if flags & 0xF:
        return "RCODE %d" % (flags & 0xF)
    if not flags & 0x0400:
        return "not authoritative"
    return "" if answers else "no SOA record"


def ask_udp(address, port, zone):
    """Raise ``OSError`` or return why the answer is no good."""
    number = struct.unpack("!H", os.urandom(2))[0]
    family = socket.getaddrinfo(address, port, 0, socket.SOCK_DGRAM)[0][0]
    link = socket.socket(family, socket.SOCK_DGRAM)
    try:
        link.settimeout(_ATTEMPT)
        link.connect((address, port))
        link.send(soa_query(zone, number))
        return check_reply(link.recv(4096), number)
    finally:
        link.close()


def read_exactly(link, size):
    """So many bytes, or fewer at the end."""
    data = b""
    while len(data) < size:
        part = link.recv(size - len(data))
        if not part:
            break
        data += part
    return data


def ask_tcp(address, port, zone):
    """The same over TCP."""
    number = struct.unpack("!H", os.urandom(2))[0]
    query = soa_query(zone, number)
    link = socket.create_connection((address, port), _ATTEMPT)
    try:
        link.sendall(struct.pack("!H", len(query)) + query)
        head = read_exactly(link, 2)
        if len(head) < 2:
            return "ended without an answer"
        return check_reply(read_exactly(link, struct.unpack("!H", head)[0]), number)
    finally:
        link.close()


def ask_http(address, port):
    """Any HTTP answer is one: nobody serves this name, which the proxy has to say."""
    link = socket.create_connection((address, port), _ATTEMPT)
    try:
        link.sendall(b"GET / HTTP/1.1\r\nHost: gateway-probe.invalid\r\nConnection: close\r\n\r\n")
        return "" if read_exactly(link, 5) == b"HTTP/" else "no HTTP answer"
    finally:
        link.close()


def client_hello():
    """Bytes of a real one, for a name that nobody serves."""
    context = ssl.create_default_context()
    out = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="gateway-probe.invalid")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


def ask_tls(address, port):
    """An alert or an orderly end are answers; silence and resets are not."""
    link = socket.create_connection((address, port), _ATTEMPT)
    try:
        link.sendall(client_hello())
        link.recv(64)
        return ""
    finally:
        link.close()


def ask_tunnel(address, port):
    """A ping of yamux, the protocol of the tunnels, has to come back before the client says who it is."""
    number = os.urandom(4)
    link = socket.create_connection((address, port), _ATTEMPT)
    try:
        link.sendall(_PING + number)
        return "" if read_exactly(link, len(_PONG) + 4) == _PONG + number else "no tunnel server"
    finally:
        link.close()


def questions(params):
    """(what, function) of all that is to be asked."""
    address = params["address"]
    asked = []
    if params["zone"] and params["dns_port"]:
        asked.append(("dns/udp", lambda: ask_udp(address, params["dns_port"], params["zone"])))
        asked.append(("dns/tcp", lambda: ask_tcp(address, params["dns_port"], params["zone"])))
    for what, ask in (("http", ask_http), ("tls", ask_tls), ("tunnel", ask_tunnel)):
        port = params[what + "_port"]
        if port:
            asked.append((what, lambda ask=ask, port=port: ask(address, port)))
    return asked


def probe(params):
    """Ask all, again and again where it is needed; why each is not well."""
    deadline = time.time() + params["timeout"]
    answers = {}
    for what, ask in questions(params):
        while True:
            try:
                answers[what] = ask()
            except (OSError, ssl.SSLError) as error:
                answers[what] = str(error) or error.__class__.__name__
            if not answers[what] or time.time() > deadline:
                break
            time.sleep(_PAUSE)
    return answers


def main():
    module = AnsibleModule(
        argument_spec=dict(
            address=dict(type="str", required=True),
            zone=dict(type="str", default=""),
            dns_port=dict(type="int", default=53),
            http_port=dict(type="int", default=80),
            tls_port=dict(type="int", default=443),
            tunnel_port=dict(type="int", default=18000),
            timeout=dict(type="float", default=30),
        ),
        supports_check_mode=True,
    )
    answers = probe(module.params)
    wrong = ["%s: %s" % (what, why) for what, why in sorted(answers.items()) if why]
    if wrong:
        module.fail_json(msg="%s does not serve: %s" % (module.params["address"], "; ".join(wrong)), answers=answers)
    module.exit_json(changed=False, answers=answers)


if __name__ == "__main__":
    main()
