"""One module a command, named after it. None imports another: what several need lies in ``stepout.cli``."""
