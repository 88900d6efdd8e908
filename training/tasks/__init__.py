"""Measurements of the pipeline's features (loops, edits, long pieces, ...); each task is a function that gives figures.

python -m training.evaluate --checkpoint checkpoints/small --tasks all
python -m training.evaluate --checkpoint checkpoints/small --tasks loops,control --quick 8
"""
