"""Rows of redis that no reservation owns: reported, or removed when the settings say so."""
