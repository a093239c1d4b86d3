"""Put, open, resolve, verify: everything that touches S3."""
