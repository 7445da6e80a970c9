"""The TFGateway daemon: a directory for each part, imports held by import-linter."""


def version() -> str:
    """The installed release, such as ``0.1.0``."""
    # Imported here: it takes as long as all else that a small command imports.
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("tfgateway")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"
