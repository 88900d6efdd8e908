"""What the pipeline promises, measured: one file a promise, each a function that gives figures.

python -m training.evaluate --checkpoint checkpoints/small --tasks all
python -m training.evaluate --checkpoint checkpoints/small --tasks loops,control --quick 8
"""
