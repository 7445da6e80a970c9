#!/usr/bin/python
# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: packages
short_description: Install packages with the distribution's own command
version_added: 0.1.0
author:
  - tfgrid.gateway maintainers (@tfgrid)
description:
  - Works with any Python on the host, unlike M(ansible.builtin.apt), which needs that of the distribution.
  - Package lists are fetched only when something is to be installed or upgraded.
  - No question is asked, and changed configuration files are kept.
options:
  name:
    description: Packages that must be installed. V(one|other) is satisfied by either; the first one known is installed.
    type: list
    elements: str
    default: []
  upgrade:
    description: Install all updates, and remove what nothing needs any more.
    type: bool
    default: false
  refresh:
    description: Fetch the package lists even when they are recent, as after a repository was added.
    type: bool
    default: false
  cache_valid_time:
    description: Seconds that package lists stay good; of no meaning to pacman, which has no partial upgrades.
    type: int
    default: 3600
  lock_timeout:
    description: Seconds to wait for another package manager to finish.
    type: int
    default: 300
attributes:
  check_mode:
    description: Can run in check mode and return what it would without it.
    support: full
    details: Package lists are not fetched, so updates are those that the host knows of.
  diff_mode:
    description: Returns details on what has changed when in diff mode.
    support: full
  platform:
    description: Target operating systems.
    support: full
    platforms: debian, archlinux
"""

EXAMPLES = r"""
- name: Redis, or what took its place
  tfgrid.gateway.packages:
    name: [redis|valkey]

- name: All updates
  tfgrid.gateway.packages:
    upgrade: true
"""

RETURN = r"""
installed:
  description: Packages that were missing.
  returned: always
  type: list
  elements: str
  sample: [ufw]
upgraded:
  description: Packages that were changed or removed by the upgrade.
  returned: always
  type: list
  elements: str
  sample: [openssl]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.tfgrid.gateway.plugins.module_utils._packages import PackageError, manager


def main():
    module = AnsibleModule(
        argument_spec=dict(
            name=dict(type="list", elements="str", default=[]),
            upgrade=dict(type="bool", default=False),
            refresh=dict(type="bool", default=False),
            cache_valid_time=dict(type="int", default=3600),
            lock_timeout=dict(type="int", default=300, no_log=False),
        ),
        supports_check_mode=True,
    )
    params = module.params
    try:
        packages = manager(module.run_command, params["lock_timeout"])
        missing = packages.missing(params["name"]) if params["name"] else []
        if (missing or params["upgrade"]) and not module.check_mode:
            packages.refresh(0 if params["refresh"] else params["cache_valid_time"])
        upgraded = packages.updates() if params["upgrade"] else []
        if not module.check_mode:
            if missing:
                packages.install(missing)
            if upgraded:
                packages.upgrade()
    except PackageError as error:
        module.fail_json(msg=str(error))
    installed = [ones[0] for ones in missing]
    result = dict(changed=bool(installed or upgraded), installed=installed, upgraded=upgraded)
    if module._diff:
        lines = ["+ %s\n" % name for name in installed] + ["^ %s\n" % name for name in upgraded]
        result["diff"] = dict(before="", after="".join(lines))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
