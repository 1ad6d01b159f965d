"""Brings images into a cache: sources, layers, one tar stream, a packer."""
