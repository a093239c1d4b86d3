"""Values to bytes and back: images and tables. No network."""
