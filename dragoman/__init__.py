"""The generated stubs of the wire contract, and nothing else."""
