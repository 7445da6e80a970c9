"""Galaxy's importer over the tarball of `make release`: metadata, contents, documentation, changelog, as of an upload.

Neither containers nor the network; ansible-test and ansible-lint, which it can also run, are parts of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tools import locked, release
from tools.tree import ROOT

HOME = ROOT / ".cache" / "importer"
SETTINGS = {
    "RUN_ANSIBLE_DOC": "True",
    "CHECK_CHANGELOG": "True",
    "RUN_ANSIBLE_LINT": "False",
    "RUN_ANSIBLE_TEST": "False",
}
# Each exception from ansible-test sanity has its reason beside it, in the file.
EXPECTED = "Ignore files skip ansible-test sanity tests"


def main() -> int:
    """0: imported without a word."""
    archive = release.build(release.EXAMPLE, HOME)
    config = HOME / "galaxy-importer.cfg"
    settings = {**SETTINGS, "TMP_ROOT_DIR": str(HOME), "ANSIBLE_LOCAL_TMP": str(HOME / "tmp")}
    config.write_text("[galaxy-importer]\n" + "".join(f"{name}={value}\n" for name, value in settings.items()))
    binaries = locked.binaries("galaxy-importer")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        "HOME": str(HOME),
        "PATH": os.pathsep.join([str(binaries), os.environ["PATH"]]),
        "GALAXY_IMPORTER_CONFIG": str(config),
    }
    command = [str(binaries / "python"), "-m", "galaxy_importer.main", str(archive)]
    done = subprocess.run(command, cwd=HOME, env=environment, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    said = done.stdout.splitlines()
    complaints = [line for line in said if line.startswith(("WARNING", "ERROR")) and EXPECTED not in line]
    return 0 if done.returncode == 0 and said and not complaints else 1


if __name__ == "__main__":
    sys.exit(main())
