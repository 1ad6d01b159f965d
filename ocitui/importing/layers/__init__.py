"""Layers: read, checked, merged into one tree and flattened into one archive."""
