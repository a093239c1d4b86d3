"""Connections of the clients that we build: to which address, how many, watched, and ended from another thread."""
