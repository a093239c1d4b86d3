"""From a pointer to verified bytes: the artifact, its ranges, files, tables, and what a document leads to."""
