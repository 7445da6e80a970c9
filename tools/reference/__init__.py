"""Generated reference pages: every page is rendered from what it describes, and a test fails when one is stale."""
