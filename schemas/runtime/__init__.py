"""What one process knows: its variables, its region, how S3 is spoken to, and what belongs to it alone."""
