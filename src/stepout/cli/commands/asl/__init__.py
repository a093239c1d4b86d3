"""``stepout asl``: states, chains of states and Maps, with every variable wired."""

from __future__ import annotations

from stepout.cli.commands.asl.command import configure

__all__ = ["configure"]
