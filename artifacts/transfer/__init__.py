"""Bytes on their way to a store and back: parts, buffers, threads, retries, and what an answer to a write means."""
