"""The targets that a task reports to: one module for each URL scheme, the registry of schemes, and the fan-out."""
