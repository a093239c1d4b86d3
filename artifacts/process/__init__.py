"""What all transfers of one process share: its memory and connections, and what it has learned of servers."""
