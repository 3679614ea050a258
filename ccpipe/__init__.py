"""Reads, extracts, hashes, scores and exports web text. Knows text and files, knows nothing of Slurm."""
