"""Text in and out: strict JSON, locations, text that others wrote. Pure."""
