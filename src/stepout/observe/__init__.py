"""What operators switch on: structured logs and metrics of a task, by environment variables."""
