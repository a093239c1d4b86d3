"""Parquet, read whole or in part; lazy datasets over many files, and the engines that scan them."""
