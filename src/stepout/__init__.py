"""Outputs for containers that AWS Step Functions runs."""

__version__ = "0.1.0"
