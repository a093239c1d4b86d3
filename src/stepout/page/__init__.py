"""A page of a run: what came out of it, what is inside, where the time went, what failed."""
