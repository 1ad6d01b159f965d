"""Bringing images into a cache: from registries, layouts, archives, and packed files with their documents."""
