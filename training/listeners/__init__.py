"""Small networks that evaluation listens with: each with its training in one file."""
