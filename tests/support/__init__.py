"""Programs that tests talk to, and helpers that several test folders share."""
