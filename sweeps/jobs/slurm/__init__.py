"""`cluster=slurm`: one batch job on Slurm's nodes."""
