#!/usr/bin/python
# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: identity
short_description: The seed file of a gateway or of a user
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Makes a seed file from words, or at random, when there is none. One that exists is never replaced.
  - With words, checks that an existing file holds their identity, and fails when it holds another one.
  - Calls the daemon's own command, in whose memory alone the seed is.
options:
  path:
    description: The seed file.
    type: path
    default: /etc/identity.seed
  words:
    description: The 24 words of the identity, from a vault; without, an existing file is kept, or a new identity made.
    type: str
  tid:
    description: The user's id at the explorer, kept in a file that is made.
    type: int
extends_documentation_fragment:
  - tfgrid.gateway.attributes.program
  - ansible.builtin.files
  - tfgrid.gateway.attributes
  - tfgrid.gateway.attributes.changes
attributes:
  safe_file_operations:
    description: Uses Ansible's strict file operation functions to ensure proper permissions and avoid data corruption.
    support: none
    details: The daemon's command creates the file, complete and readable by its owner only, or not at all.
"""

EXAMPLES = r"""
- name: The gateway has the identity of its words
  tfgrid.gateway.identity:
    words: "{{ vault_words }}"
    tid: 12
    owner: tfgateway
    group: tfgateway
    mode: "0400"

- name: Some identity, made once
  tfgrid.gateway.identity:
    path: /root/alice.seed
  register: alice
"""

RETURN = r"""
seed_file:
  description: The seed file.
  returned: success
  type: str
  sample: /etc/identity.seed
node_id:
  description: The identity, base58; not in check mode when it would be made at random.
  returned: when it is known
  type: str
  sample: FAe4sisG95oZ42w7buUn5qEE4TAnfTTFPiguZUHmhiF
public_key:
  description: The same, as hexadecimal digits.
  returned: when it is known
  type: str
  sample: 03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8
tid:
  description: Threebot id in the seed file, or null.
  returned: when it is known
  type: int
  sample: 12
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tfgrid.gateway.plugins.module_utils._attributes import forget_unknown
from ansible_collections.tfgrid.gateway.plugins.module_utils._daemon import PROGRAM_OPTION, DaemonError, call


def main():
    module = AnsibleModule(
        argument_spec=dict(
            path=dict(type="path", default="/etc/identity.seed"),
            words=dict(type="str", no_log=True),
            tid=dict(type="int"),
            **PROGRAM_OPTION,
        ),
        add_file_common_args=True,
        supports_check_mode=True,
    )
    path = module.params["path"]
    there = os.path.exists(path)
    try:
        found, wanted = identities(module, there)
    except DaemonError as error:
        module.fail_json(msg="%s: %s" % (path, error))
    if there and wanted and wanted["node_id"] != found["node_id"]:
        module.fail_json(
            msg="the words belong to %s, but %s holds %s. An identity is never replaced: correct the words, or move the"
            " file away yourself" % (wanted["node_id"], path, found["node_id"])
        )
    shown = dict(found or wanted or {}, seed_file=path)
    result = dict(changed=not there, **shown)
    if module._diff:
        after = "%s\n" % shown.get("node_id", "kept" if there else "new")
        result["diff"] = dict(before_header=path, after_header=path, before=after if there else "", after=after)
    if os.path.exists(path):
        attributes = module.load_file_common_arguments(module.params, path=path)
        if module.check_mode:
            result["changed"] |= forget_unknown(attributes)
        result["changed"] = module.set_fs_attributes_if_different(attributes, result["changed"])
    module.exit_json(**result)


def identities(module, there):
    """Of the file, made unless this is check mode, and of the words; None: there is none. Errors: DaemonError."""
    program, path, words = module.params["program"], module.params["path"], module.params["words"]
    run = module.run_command
    if module.check_mode and not os.path.exists(program):
        return None, None  # an untouched node: nothing is known yet
    wanted = call(run, [program, "identity", "show", "--words-from=-"], words) if words else None
    if there:
        return call(run, [program, "identity", "show", "--seed", path]), wanted
    if module.check_mode:
        return None, wanted
    made = [program, "identity", "generate", "--output", path]
    made += ["--tid=%d" % module.params["tid"]] if module.params["tid"] is not None else []
    made += ["--words-from=-"] if words else []
    return call(run, made, words or None), wanted


if __name__ == "__main__":
    main()
