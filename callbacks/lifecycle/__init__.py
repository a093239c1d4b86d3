"""What happens to a task between its start and its report: state, heartbeat, signals, document, completion."""
