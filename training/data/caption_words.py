"""Words of the captions besides instruments and styles; HELDOUT lists stand in no training caption."""

# Upper bpm limit of each group of tempo words.
TEMPO_WORDS = ((72, ("slow", "very slow", "unhurried"), ("really slow", "drawn-out")),
                (96, ("slow to medium", "relaxed-tempo", "laid-back"), ("gently paced", "unrushed")),
                (122, ("mid-tempo", "medium tempo", "moderate"), ("walking-pace", "medium-paced")),
                (146, ("fast", "upbeat", "quick"), ("brisk", "briskly moving")),
                (999, ("very fast", "rapid", "high-speed"), ("breakneck", "super fast")))  # fmt: skip
# What a mood may be called instead in held-out captions.
MOOD_HELDOUT = {
    "calm": "tranquil", "peaceful": "serene", "dreamy": "dreamlike", "happy": "joyous",
    "joyful": "jubilant",
    "bright": "radiant", "sad": "sorrowful", "melancholic": "mournful", "wistful": "yearning",
    "dark": "gloomy",
    "tense": "suspenseful", "dramatic": "theatrical", "warm": "cozy", "hopeful": "optimistic",
    "energetic": "vigorous",
    "relaxed": "easygoing", "chill": "laid back and easy", "mellow": "soothing", "groovy": "toe-tapping",
    "funky": "in the pocket",
    "danceable": "made for dancing", "playful": "whimsical", "elegant": "refined", "graceful": "flowing",
    "romantic": "loving", "proud": "stately", "bold": "daring", "triumphant": "victorious",
    "festive": "celebratory",
    "lively": "spirited", "cool": "slick", "smooth": "silky", "gentle": "delicate", "tender": "affectionate",
    "epic": "monumental", "heroic": "valiant", "majestic": "regal", "merry": "jolly", "cheerful": "good-humored",
    "driving": "relentless", "hypnotic": "trance-like", "sleepy": "drowsy", "sweet": "sugary",
    "bluesy": "down-home", "bouncy": "springy",
    "charming": "enchanting", "earthy": "rustic", "emotional": "moving", "ethereal": "otherworldly",
    "fast": "speedy", "heavy": "hard-hitting", "innocent": "childlike", "moody": "brooding", "quirky": "odd",
    "raw": "rough", "simple": "plain", "soulful": "heartfelt", "swinging": "finger-snapping",
    "upbeat": "peppy",
   
    "nostalgic": "bittersweet", "powerful": "mighty", "sunny": "summery", "laid-back": "lazy",
}  # fmt: skip
ROOM_WORDS = {"room": ("in a room", "with a little reverb"), "hall": ("in a concert hall",
    "with long reverb"),
               "cathedral": ("in a cathedral", "drenched in reverb"), "dry": ("dry",
                   "without reverb")}  # fmt: skip
ROOM_HELDOUT = {
    "room": "in a small space",
    "hall": "in an auditorium",
    "cathedral": "in a huge church",
    "dry": "with a dry, close sound",
}
DYNAMICS = {
    "soft": ("soft", "quiet", "softly played"),
    "medium": ("",),
    "loud": ("loud", "strong", "forceful"),
}
NOUNS = ("music", "track", "piece", "instrumental", "song", "tune")
HELDOUT_NOUNS = ("recording", "cue", "composition", "background music")
# How captions of music without drums or percussion say so; the pipeline says it in the first of these.
NO_DRUMS = ("without drums", "without drums", "no drums", "no drums or percussion", "without percussion", "drumless")
NO_DRUMS_HELDOUT = ("minus the drums", "free of percussion", "lacking any beat")
