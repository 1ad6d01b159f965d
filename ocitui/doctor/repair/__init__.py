"""Plans of repair and what carries them out."""
