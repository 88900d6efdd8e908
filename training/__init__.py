"""Audio -> checkpoint: data, the three training stages and evaluation."""
