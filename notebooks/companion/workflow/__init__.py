"""What `make` and the Snakefile run on notebooks."""
