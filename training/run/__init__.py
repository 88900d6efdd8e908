"""What all training stages share: the loop, checkpoints, logs, sharding, dry runs."""
