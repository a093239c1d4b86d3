"""From a value to a committed artifact: what to write, under which name and key, and what is kept of it."""
