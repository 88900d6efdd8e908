"""Sources of scores that are free to train on: readers, licences, downloads, and the bank made of them."""

from training.data.sources.load import SOURCES, load_scores

__all__ = ["SOURCES", "load_scores"]
