"""Where documents and failures lie in other JSON."""
