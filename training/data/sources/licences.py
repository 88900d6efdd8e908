"""What may be read from the music21 corpus and Freedoom, and why the rest may not.

An allow list: a path that no rule allows is refused. The music21 corpus is not uniformly free (its license.txt says
so), so every file was looked at; the words quoted here are those embedded in the files. This is an engineering
reading, not legal advice. Texts are kept short because they travel in every row of the scorebook.
"""

from fnmatch import fnmatchcase

_PLAIN = "public domain music; transcription without stated restriction, from the music21 corpus"

# Pattern over the path inside corpus/ -> license text of what it matches. The first match counts.
ALLOW: dict[str, str] = {
    "ryansMammoth/*.abc": f"{_PLAIN} (Ryan's Mammoth Collection, 1883)",
    "oneills1850/*.abc": f"{_PLAIN} (O'Neill's Music of Ireland, 1903)",
    "airdsAirs/*.abc": f"{_PLAIN} (Aird's Airs, 1778 on; transcribed by Jack Campin)",
    "miscFolk/northumbrianminstrelsyopus.abc": f"{_PLAIN} (Northumbrian Minstrelsy, 1882; Jack Campin)",
    "bach/*.mxl": f"{_PLAIN} (J. S. Bach)",
    "bach/*.xml": f"{_PLAIN} (J. S. Bach)",
    "beethoven/*.mxl": f"{_PLAIN} (L. van Beethoven)",
    "haydn/*.mxl": f"{_PLAIN} (J. Haydn)",
    "mozart/*.mxl": f"{_PLAIN} (W. A. Mozart)",
    "handel/*.mxl": f"{_PLAIN} (G. F. Handel)",
    "cpebach/*.mxl": f"{_PLAIN} (C. P. E. Bach)",
    "schumann_robert/*.mxl": f"{_PLAIN} (R. Schumann)",
    "verdi/*.mxl": f"{_PLAIN} (G. Verdi)",
    "corelli/*.xml": "public domain music; encoding (c) 2014 under CC-BY, from the music21 corpus",
    "weber/*.mxl": "public domain music; encoding released to the public domain in 1998 by Oliver Seely",
    "lusitano/*.mxl": "public domain music; encoding by Michael Scott Asato Cuthbert, CC0",
    "liliuokalani/*.mxl": "public domain music; encoding by Michael Scott Asato Cuthbert, CC0",
    "johnson_j_r/*.mxl": "public domain music; encoding by Michael Scott Asato Cuthbert, CC0",
}

# Pattern -> why it stays out. Checked before ALLOW.
DENY: dict[str, str] = {
    "*.krn": "Humdrum files: 'Rights to all derivative electronic formats reserved'",
    "essenFolksong/*": "Essen collection: permission for 'non-commercial distribution and use' only",
    "palestrina/*": "'Rights to all derivative electronic formats reserved' (John Miller, 2000)",
    "monteverdi/*": "some are 'UT ORPHEUS EDIZIONI 2003', the others of unstated origin",
    "trecento/*": "modern edition (PMFC), 'Copyright' in twenty of the files",
    "josquin/*": "GNU General Public License, version 2 or later",
    "schumann_clara/*": "polonaises CC BY-SA 4.0 (share-alike), the other a bare copyright sign",
    "beach/*": "CC-SA-BY (share-alike)",
    "ciconia/*": "CC-BY-SA 3.0 (share-alike)",
    "luca/*": "CC-BY-SA 3.0 (share-alike)",
    "webern/*": "CC-BY-SA edition (share-alike)",
    "schoenberg/*": "composition protected in many countries until 2022; terms of the encoding unstated",
    "schubert/*": "a bare 'Copyright' sign without terms",
    "schumann_robert/*.xml": "a second encoding of opus48no2",
    "nottingham-dataset/*": "terms of the data set unstated",
    "demos/*": "made for music21, terms unstated",
    "theoryExercises/*": "made for music21, terms unstated",
    "leadSheet/*": "one 'All Rights Reserved', the other from Wikifonia, terms unstated",
    "joplin/*": "from a score-sharing site, terms of the upload unstated",
    "bach/bwv846.*": "from a score-sharing site, terms of the upload unstated",
    "bach/bwv277.*": "the other encoding here is restricted (.krn above); left out to be safe",
    "bach/bwv281.*": "as bwv277",
    "bach/bwv366.*": "as bwv277",
    "miscFolk/americanfife*": "'downloaded from a site that has now disappeared': origin unknown",
}

# Words that keep a file out even where its path is allowed, should a later wheel carry them.
_FORBIDDEN_WORDS = (
    "derivative electronic formats reserved", "ut orpheus", "noncommercial", "non-commercial", "gnu general public",
    "all rights reserved", "cc by-nc", "cc by-sa", "cc by-nd", "cc-by-nc", "cc-by-sa", "cc-by-nd", "cc-sa-by",
    "share-alike", "sharealike",
)  # fmt: skip

FREEDOOM = (
    "BSD-3-Clause: Copyright (c) 2001-2012 Contributors to the Freedoom project (see its CREDITS); redistribution and "
    "use with or without modification permitted"
)


def licence_of(path: str) -> str | None:
    """License text of a file of the corpus ("bach/bwv66.6.mxl"), or None if it may not be used."""
    if any(fnmatchcase(path, pattern) for pattern in DENY):
        return None
    return next((text for pattern, text in ALLOW.items() if fnmatchcase(path, pattern)), None)


def refusal_of(path: str) -> str | None:
    """Why a file of the corpus may not be used; None if it may."""
    if licence_of(path) is not None:
        return None
    return next((why for pattern, why in DENY.items() if fnmatchcase(path, pattern)), "not on the allow list")


def forbidden_words(text: str) -> str | None:
    """The first words in a file's text that forbid or restrict its use; None if there are none."""
    lower = text.lower()
    return next((words for words in _FORBIDDEN_WORDS if words in lower), None)
