"""``stepout asl``: Task states and state machines with every variable wired. Pure."""
