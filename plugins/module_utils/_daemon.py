# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Asks the daemon's own command on the node; the modules hold no gateway logic themselves."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

import json
import os

DAEMON_OPTIONS = {
    "program": {"type": "path", "default": "/opt/tfgateway/current/bin/tfgateway"},
    "config": {"type": "path", "default": "/etc/tfgateway/gateway.toml"},
}


class DaemonError(Exception):
    """The daemon's command could not answer; the text is for an operator."""


def ask(run_command, params, words):
    """The JSON object that ``tfgateway WORDS --json`` prints.

    run_command: ``AnsibleModule.run_command``; params: a dict with the keys of DAEMON_OPTIONS;
    words: the command and its arguments. Errors: DaemonError.
    """
    for path, what in ((params["program"], "daemon"), (params["config"], "configuration")):
        if not os.path.exists(path):
            raise DaemonError("this node is not provisioned: its %s %s does not exist (run site.yml)" % (what, path))
    argv = [params["program"], "--config", params["config"]] + list(words) + ["--json"]
    code, out, err = run_command(argv)
    if code != 0:
        raise DaemonError("`%s` failed with exit code %d: %s" % (" ".join(argv), code, _last_line(err)))
    try:
        answer = json.loads(out)
    except ValueError:
        raise DaemonError("`%s` did not print JSON: %s" % (" ".join(argv), _last_line(out)))
    if not isinstance(answer, dict):
        raise DaemonError("`%s` did not print a JSON object" % " ".join(argv))
    return answer


def _last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
