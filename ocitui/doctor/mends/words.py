"""What steps say of themselves that more than one family says."""

from __future__ import annotations

HIT = "a hit, as far as this file goes"
MISS = "a miss: a launch or a pull by name pulls it again, but a stored zone, which is made anew by digest alone, fails"
NOTHING = "nothing: it never saw this"
REVERSIBLE = "undo brings it back"
