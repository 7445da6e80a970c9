"""The documentation as a site: ``make docs``. Warnings are errors, so that no link inside leads nowhere."""

project = "tfgrid.gateway"
author = "tfgrid.gateway maintainers"
copyright = "tfgrid.gateway maintainers; Apache-2.0"  # noqa: A001 - Sphinx's own name for it
extensions = ["myst_parser"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
exclude_patterns = [".build"]
html_theme = "furo"
html_title = "tfgrid.gateway"
