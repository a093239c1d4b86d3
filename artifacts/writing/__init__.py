"""From a value to a committed artifact: what to write, under which name and key, and the record of it."""
