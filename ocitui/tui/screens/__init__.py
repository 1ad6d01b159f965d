"""Screens of their own, one key away and back."""
