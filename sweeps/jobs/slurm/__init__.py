"""`cluster=slurm`: one batch job on Slurm's nodes, its options, its script and its submission."""
