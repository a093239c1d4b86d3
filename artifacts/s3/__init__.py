"""One bucket through botocore: the store, its clients and errors, and faster routes for small requests."""
