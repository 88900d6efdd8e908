"""Bring your own music: a collection of recordings -> the rows that training reads, with every file accounted for."""
