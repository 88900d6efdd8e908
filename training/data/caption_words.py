"""Words of the captions besides instruments and styles; HELDOUT lists stand in no training caption."""

# Upper bpm limit of each group of tempo words.
TEMPO_WORDS = ((72, ("slow", "very slow", "unhurried"), ("sluggish", "drawn-out")),
                (96, ("slow to medium", "relaxed-tempo", "laid-back"), ("ambling", "easy-paced")),
                (122, ("mid-tempo", "medium tempo", "moderate"), ("walking-pace", "andante-like")),
                (146, ("fast", "upbeat", "quick"), ("brisk", "zippy")),
                (999, ("very fast", "rapid", "high-speed"), ("breakneck", "racing")))  # fmt: skip
# What a mood may be called instead in held-out captions.
MOOD_HELDOUT = {
    "calm": "tranquil", "peaceful": "serene", "dreamy": "reverie-like", "happy": "joyous",
    "joyful": "gleeful",
    "bright": "radiant", "sad": "sorrowful", "melancholic": "mournful", "wistful": "pining",
    "dark": "shadowy",
    "tense": "nerve-racking", "dramatic": "theatrical", "warm": "cozy", "hopeful": "optimistic",
    "energetic": "vigorous",
    "relaxed": "easygoing", "chill": "unwound", "mellow": "soft-edged", "groovy": "toe-tapping",
    "funky": "get-down",
    "danceable": "made for dancing", "playful": "frolicsome", "elegant": "refined", "graceful": "poised",
    "romantic": "amorous", "proud": "stately", "bold": "daring", "triumphant": "victorious",
    "festive": "celebratory",
    "lively": "spirited", "cool": "suave", "smooth": "silky", "gentle": "delicate", "tender": "affectionate",
    "epic": "monumental", "heroic": "valiant", "majestic": "regal", "merry": "jolly", "cheerful": "gladsome",
    "driving": "relentless", "hypnotic": "trance-inducing", "sleepy": "drowsy", "sweet": "sugary",
    "bluesy": "down-home", "bouncy": "springy",
    "charming": "enchanting", "earthy": "rustic", "emotional": "moving", "ethereal": "otherworldly",
    "fast": "speedy", "heavy": "weighty", "innocent": "childlike", "moody": "brooding", "quirky": "oddball",
    "raw": "rough", "simple": "plain", "soulful": "heartfelt", "swinging": "finger-snapping",
    "upbeat": "peppy",
   
    "nostalgic": "yearning for old times", "powerful": "mighty", "sunny": "sun-drenched", "laid-back": "lazy",
}  # fmt: skip
ROOM_WORDS = {"room": ("in a room", "with a little reverb"), "hall": ("in a concert hall",
    "with long reverb"),
               "cathedral": ("in a cathedral", "drenched in reverb"), "dry": ("dry",
                   "without reverb")}  # fmt: skip
ROOM_HELDOUT = {
    "room": "in a small space",
    "hall": "in an auditorium",
    "cathedral": "in a huge church",
    "dry": "close and bone-dry",
}
DYNAMICS = {
    "soft": ("soft", "quiet", "softly played"),
    "medium": ("",),
    "loud": ("loud", "strong", "forceful"),
}
NOUNS = ("music", "track", "piece", "instrumental", "song", "tune")
HELDOUT_NOUNS = ("recording", "cue", "composition", "jam")
