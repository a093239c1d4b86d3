"""Ways for small requests that cost less than botocore's whole road, asked by ``fast_store`` before it."""
