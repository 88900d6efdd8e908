"""Whole trainings on machines of other people: one GPU without a network, eight GPUs, SLURM."""
