"""``stepout run``: a command in any language becomes a task."""
