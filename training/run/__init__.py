"""Shared parts of the training stages: the loop, checkpoints, logs, sharding and dry runs."""
