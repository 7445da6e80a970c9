"""The TFGateway daemon: a directory for each part, imports held by import-linter."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("tfgateway")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
