"""Keeps the bytecode of modules that come in a zip, which Python compiles anew in each process.

Each task of Ansible sends some fifty modules in a zip, and a run of the tests sends thousands of zips. What is kept
goes by the hash of the source, as in hash-based .pyc files (PEP 552), so it is what would have been compiled. On the
nodes of tests only: a .pth file in site-packages imports it. The daemon's processes leave site-packages out (-S).
"""

import _imp
import marshal
import os
import sys
import zipimport
from collections.abc import Callable
from types import CodeType

_DIRECTORY = "/var/cache/zipped-bytecode"  # root's; the processes of others compile


def _keep(compile_source: Callable[[str, bytes], CodeType]) -> Callable[[str, bytes], CodeType]:
    def compiled(path: str, source: bytes) -> CodeType:
        name = path.partition(".zip/")[2].replace("/", ".")
        kept = f"{_DIRECTORY}/{name}-{_imp.source_hash(0, source).hex()}-{sys.implementation.cache_tag}"
        try:
            with open(kept, "rb") as file:  # noqa: PTH123  (pathlib takes longer to import than this saves)
                code: CodeType = marshal.load(file)  # noqa: S302  (root's file)
                return code
        except (OSError, EOFError, ValueError, TypeError):
            code = compile_source(path, source)
        try:
            partial = f"{kept}.{os.getpid()}"
            with open(partial, "wb") as file:  # noqa: PTH123
                marshal.dump(code, file)
            os.replace(partial, kept)  # noqa: PTH105
        except OSError:
            pass
        return code

    return compiled


zipimport._compile_source = _keep(zipimport._compile_source)  # type: ignore[attr-defined]
