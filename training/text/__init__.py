"""The text encoder: its words and texts, its two trainings, what it has learnt."""
