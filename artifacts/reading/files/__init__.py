"""The files of directories and datasets: listings, downloads, and file systems over them."""
