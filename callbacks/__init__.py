"""Report success, failure, heartbeat: everything that touches a task's fate."""
