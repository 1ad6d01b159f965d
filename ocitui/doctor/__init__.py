"""Examines a cache and mends it."""
