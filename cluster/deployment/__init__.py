"""What runs a job on somebody's cluster, made from the job's own settings: a RayJob for Kubernetes, a Slurm script."""
