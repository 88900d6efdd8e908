"""Small networks that estimate tempo, beats, key, instruments and style for evaluation; each file has its training."""
