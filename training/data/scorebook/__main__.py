"""`python -m training.data.scorebook` renders the scorebook; see training/data/scorebook/build.py."""

from training.config import command
from training.data.scorebook.build import main

if __name__ == "__main__":
    command(main)
