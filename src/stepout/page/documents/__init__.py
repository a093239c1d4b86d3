"""The documents of a run, wherever they come from: their cards, who reported them, and the children of a Map."""
