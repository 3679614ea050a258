"""Plans, claims, sentinels, workers and launchers for lists of units. Knows files and Slurm, knows nothing of text."""
