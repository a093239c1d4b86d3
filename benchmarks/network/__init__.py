"""A network that can be had by anybody: a proxy in user space that delays, paces, stalls and cuts connections."""
