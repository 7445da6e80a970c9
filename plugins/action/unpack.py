# Copyright: tfgrid.gateway maintainers
# SPDX-License-Identifier: Apache-2.0
"""Controller's side of ``unpack``: a copy and a shell are all that the host needs."""

from __future__ import annotations

import shlex

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

MARK = ".complete"  # holds the digest of the archive; written last

UNPACK = """\
set -eu
umask 022
there=$(sha256sum {archive} | cut -d' ' -f1)
if [ "$there" != {sha256} ]; then echo "the archive has the digest $there" >&2; exit 1; fi
rm -rf {partial}
mkdir -p {partial}
tar -xzf {archive} -C {partial} --strip-components=1 --no-same-owner
echo {sha256} > {partial}/{mark}
rm -rf {dest}
mv {partial} {dest}
"""


class ActionModule(ActionBase):
    """Unpack an archive of the controller, completely or not at all."""

    TRANSFERS_FILES = True
    _VALID_ARGS = frozenset(("src", "dest", "sha256"))

    def run(self, tmp=None, task_vars=None):
        """The result of the task."""
        result = super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(
            {
                "src": {"type": "path", "required": True},
                "dest": {"type": "path", "required": True},
                "sha256": {"type": "str", "required": True},
            }
        )
        dest, sha256 = arguments["dest"].rstrip("/"), arguments["sha256"]
        quoted = {"dest": shlex.quote(dest), "partial": shlex.quote(f"{dest}.partial"), "mark": MARK,
                  "sha256": shlex.quote(sha256)}  # fmt: skip
        before = self._shell_command("cat {dest}/{mark} 2>/dev/null || true".format(**quoted)).strip()
        result["changed"] = before != sha256
        if self._task.diff:
            result["diff"] = {
                "before_header": dest,
                "after_header": dest,
                "before": f"{before}\n" * bool(before),
                "after": f"{sha256}\n",
            }
        if not result["changed"] or self._task.check_mode:
            return result
        try:
            archive = self._transfer_file(arguments["src"], self._remote_path())
            self._fixup_perms2([self._connection._shell.tmpdir, archive], execute=False)
            self._shell_command(UNPACK.format(archive=shlex.quote(archive), **quoted))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _remote_path(self):
        """Where the archive goes; the directory is made by the connection's shell alone."""
        if not self._connection._shell.tmpdir:
            self._make_tmp_path()
        return self._connection._shell.join_path(self._connection._shell.tmpdir, "archive.tar.gz")

    def _shell_command(self, script):
        """What ``script`` prints. Errors: AnsibleActionFail with its words."""
        done = self._low_level_execute_command(f"/bin/sh -c {shlex.quote(script)}")
        if done["rc"] != 0:
            said = (done.get("stderr") or done.get("stdout") or "").strip()
            raise AnsibleActionFail(f"could not unpack on this host: {said or 'exit code %d' % done['rc']}")
        return done["stdout"]
