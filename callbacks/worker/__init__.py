"""Processes that outlive one task: they take tasks from a queue or an activity, and run a command for each."""
