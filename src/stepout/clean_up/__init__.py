"""``stepout gc``: what tasks that keep a record left behind and no record names, listed or removed."""

from stepout.clean_up.leftovers import CleanUp, Leftover, Tally

__all__ = ["CleanUp", "Leftover", "Tally"]
