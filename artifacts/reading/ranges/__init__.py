"""Any range of one object, verified block by block before a byte of it is given away."""
