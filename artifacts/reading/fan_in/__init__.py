"""What many tasks reported: result files, array jobs and commit records, one child after the other."""
