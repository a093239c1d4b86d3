"""``stepout demo``: the whole way on a local AWS."""
