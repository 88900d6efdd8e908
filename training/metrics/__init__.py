"""Metrics of clips and of sets of clips, and the reports of them."""
