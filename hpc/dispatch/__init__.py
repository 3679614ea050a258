"""How work gets onto machines: sbatch scripts, Slurm, this machine, and the gates that close a stage."""
