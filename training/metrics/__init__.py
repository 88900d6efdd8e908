"""What is measured, one idea a file."""
