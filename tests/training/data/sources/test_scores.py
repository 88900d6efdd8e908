"""Scores: the readers against small hand-written pieces, the bank, and the licences of what is really loaded."""

import io
import struct
import zipfile
from dataclasses import replace

import mido
import numpy as np
import pytest

from pipelines.vivace_score import Score as Played
from training.data.scorebook.piece import Part, Score, bar_q, beat_q, load_bank, save_bank, score_notes
from training.data.sources import load_scores, to_midi
from training.data.sources.abc import read_abc
from training.data.sources.bars import align_bars
from training.data.sources.fetch import find_freedoom, find_music21, find_soundfont
from training.data.sources.freedoom import read_freedoom
from training.data.sources.licences import forbidden_words, licence_of, refusal_of
from training.data.sources.load import merge_duplicates
from training.data.sources.musicxml import MusicXmlError, read_musicxml

CORPUS = "music21/corpus/"
# Written here again, so that a slip in the list of the readers does not go unseen.
FORBIDDEN_FOLDERS = (
    "essenFolksong", "palestrina", "monteverdi", "trecento", "josquin", "schumann_clara", "beach", "ciconia", "luca",
    "webern", "nottingham-dataset", "demos",
)  # fmt: skip
FORBIDDEN_WORDS = (
    b"rights to all derivative electronic formats reserved", b"ut orpheus", b"non-commercial", b"noncommercial",
    b"gnu general public", b"all rights reserved", b"cc-by-sa", b"cc by-sa", b"cc-sa-by",
)  # fmt: skip


def tune(body: str, meter: str = "4/4", unit: str = "1/8", key: str = "C", extra: str = "") -> Score:
    """The one tune of an ABC text."""
    ((_, score),) = read_abc(f"X:1\nT:Test\n{extra}M:{meter}\nL:{unit}\nK:{key}\n{body}\n")
    assert isinstance(score, Score), score
    return score


def onsets(score: Score) -> list[float]:
    return score.parts[0].notes[:, 0].tolist()


def durations(score: Score) -> list[float]:
    return score.parts[0].notes[:, 1].tolist()


def pitches(score: Score) -> list[int]:
    return score.parts[0].notes[:, 2].astype(int).tolist()


REST = "|c4c4|c4c4|c4c4|c4c4|"


def test_abc_lengths_octaves_and_accidentals():
    score = tune("C,Cc c' ^F F/G/ _B2" + "|F B =B2 zc3 " + REST, key="G")
    assert pitches(score)[:12] == [48, 60, 72, 84, 66, 66, 67, 70, 66, 71, 71, 72]
    assert onsets(score)[:9] == [0, 0.5, 1, 1.5, 2, 2.5, 2.75, 3, 4]
    assert onsets(score)[10:12] == [5, 6.5]  # B natural, and a quaver rest before c
    assert score.time_signature == "4/4" and score.pickup_q == 0 and score.length_q == 24


def test_abc_accidental_lasts_to_the_bar_line_and_over_a_tie():
    score = tune("^F2F2 F4-|F2F2 ^c4-|c4 c4" + REST)
    assert pitches(score)[:7] == [66, 66, 66, 65, 73, 72, 72]
    assert durations(score)[2] == 3.0 and durations(score)[4] == 4.0


def test_abc_tuplets_and_broken_rhythm():
    score = tune("(3CDE F2 G>A B<c|((3C2D2E2) c>>.d {ag}e2" + REST)
    third = 1 / 3
    np.testing.assert_allclose(onsets(score)[:8], [0, third, 2 * third, 1, 2, 2.75, 3, 3.25])
    np.testing.assert_allclose(durations(score)[8:13], [2 * third, 2 * third, 2 * third, 0.875, 0.125])


def test_abc_slur_is_no_tie_and_chords_are_taken():
    score = tune('C2-D2 "Am"[CEG]4|!trill![C2E2]2 z4' + REST)
    assert pitches(score)[:7] == [60, 62, 60, 64, 67, 60, 64]
    assert durations(score)[:7] == [1, 1, 2, 2, 2, 2, 2]


def test_abc_pickup_repeats_and_line_ends_inside_a_bar():
    score = tune("GA|c4 c2\nc2|c4 c2::GA|c4c4|c4 c4|c8|c4 c2:|")
    assert score.pickup_q == 1.0
    assert onsets(score)[:7] == [0, 0.5, 1, 3, 4, 5, 7]
    assert onsets(score)[7:10] == [8.0, 8.5, 9.0]  # the second strain's pickup ends the bar the first strain left open
    assert (score.length_q - score.pickup_q) % 4 == 0


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("D", "D major"), ("Em", "E minor"), ("E Minor", "E minor"), ("Ador", "A minor"), ("D Mixolydian", "D major"),
        ("Glyd", "G major"), ("F#m", "Gb minor"), ("Bb", "Bb major"), ("EM", "E major"), ("A aeolian", "A minor"),
    ],
)  # fmt: skip
def test_abc_keys(field: str, key: str):
    tonic = f"{field[0]}4{field[0]}4|"
    assert tune(tonic * 4, key=field).key == key


def test_abc_signatures():
    every = "CDEF GABc|c8|c8|c8|c8|"
    assert pitches(tune(every, key="Ador"))[3] == 66 and pitches(tune(every, key="Dmix"))[0] == 60
    assert pitches(tune(every, key="Eb"))[:7] == [60, 62, 63, 65, 67, 68, 70]
    assert pitches(tune(every, key="Bm"))[:4] == [61, 62, 64, 66]


def test_abc_key_of_a_bare_letter_needs_the_notes_to_agree():
    dorian = "A2Bc d2cB|A2E2 A2Bc|dcBA GABG|E2A2 A4|A2Bc d2cB|A2E2 A2Bc|dcBA GABG|E2A2 A4|"
    assert tune(dorian, key="G").key is None


def test_abc_tempo_is_in_the_beat_of_the_meter():
    assert tune("cde cde|c6|c6|c6|", meter="6/8", extra="Q:3/8=120\n").bpm == 120
    assert tune(REST, extra='Q:"Allegro" 1/2=60\n').bpm == 120
    assert tune(REST).bpm is None


def test_abc_many_tunes_and_refusals():
    text = "% a book\nX:7\nT:One, The\nM:C|\nL:1/4\nK:C\nc4|c4|c4|cdef|cdef|\n\n\nX:8\nT:Voices\nM:C\nL:1/4\nK:C\n"
    text += "V:1\nc4|\nV:2\nC4|\n\nX:9\nT:Free\nM:none\nK:C\nccc\n\n"
    text += "X:10\nT:Broken\nM:4/4\nL:1/4\nK:C\nc3|d5|c3|d2|d2|e3|e|f3|\n"
    found = dict(read_abc(text))
    assert found[7].title == "The One" and found[7].time_signature == "2/2" and bar_q("2/2") == 4
    assert "voices" in found[8] and "meter" in found[9] and "out of shape" in found[10]


def test_bars_that_do_not_fit_are_repaired_at_the_next_downbeat():
    starts, pickup, length, repaired = align_bars([1, 4, 4, 3, 1, 4, 3, 4, 5, 4], 4.0)
    assert pickup == 1.0 and length == 37.0 and repaired == 2
    assert starts.tolist() == [0, 1, 5, 9, 12, 13, 17, 21, 25, 33]
    assert all((s - pickup) % 4 == 0 for s, d in zip(starts[1:], [4, 4, 3, 0, 4, 3, 4, 5, 4], strict=True) if d >= 3)


def xml_score(measures: str, second: str = "", attributes: str = "") -> bytes:
    """A two-part MusicXML score; the second part defaults to the first measure's rests."""
    head = (
        "<attributes><divisions>2</divisions><key><fifths>0</fifths></key><time><beats>3</beats>"
        f"<beat-type>4</beat-type></time>{attributes}</attributes>"
    )
    parts = "".join(
        f'<part id="P{k}">{body.replace("HEAD", head)}</part>' for k, body in ((1, measures), (2, second)) if body
    )
    listing = "".join(
        f'<score-part id="P{k}"><part-name>Voice {k}</part-name><midi-instrument id="I{k}"><midi-program>{p}'
        "</midi-program></midi-instrument></score-part>"
        for k, p in ((1, 41), (2, 43))
    )
    return (
        '<?xml version="1.0"?><score-partwise><work><work-title>Test piece</work-title></work>'
        f"<part-list>{listing}</part-list>{parts}</score-partwise>"
    ).encode()


def note(step: str, duration: int, *, octave: int = 4, tie: str = "", chord: bool = False, alter: int = 0) -> str:
    return (
        f"<note>{'<chord/>' if chord else ''}<pitch><step>{step}</step><alter>{alter}</alter><octave>{octave}</octave>"
        f"</pitch><duration>{duration}</duration>{''.join(f'<tie type={t!r}/>' for t in tie.split())}</note>"
    )


UPPER = (
    f'<measure number="0" implicit="yes">HEAD<sound tempo="90"/>{note("G", 2)}</measure>'
    f"<measure>{note('C', 4, octave=5)}{note('B', 2, alter=-1)}</measure>"
    f"<measure>{note('A', 6, tie='start')}</measure><measure>{note('A', 4, tie='stop')}{note('G', 2)}</measure>"
    f"<measure><note><grace/><pitch><step>D</step><octave>5</octave></pitch></note>{note('C', 6)}"
    f"{note('E', 6, chord=True)}<backup><duration>4</duration></backup>{note('G', 4)}</measure>"
    f"<measure>{note('C', 4)}</measure>"
)
LOWER = (
    f'<measure number="0">HEAD<note><rest/><duration>2</duration></note></measure><measure>{note("C", 6, octave=3)}'
    f"</measure><measure>{note('F', 6, octave=3)}</measure><measure>{note('G', 6, octave=3)}</measure>"
    f"<measure>{note('C', 6, octave=3)}</measure><measure>{note('C', 4, octave=3)}</measure>"
)


def test_musicxml_notes_ties_voices_and_pickup():
    score = read_musicxml(xml_score(UPPER, LOWER))
    assert score.time_signature == "3/4" and score.pickup_q == 1.0 and score.key == "C major" and score.bpm == 90
    assert [p.name for p in score.parts] == ["Voice 1", "Voice 2"] and [p.program for p in score.parts] == [40, 42]
    expected = [
        (0, 1, 67), (1, 2, 72), (3, 1, 70), (4, 5, 69), (9, 1, 67), (10, 3, 60), (10, 3, 64), (11, 2, 67), (13, 2, 60),
    ]  # fmt: skip
    assert [tuple(n) for n in score.parts[0].notes[:, :3].tolist()] == expected
    assert score.parts[1].notes[:, 0].tolist() == [1, 4, 7, 10, 13] and score.title == "Test piece"


def test_musicxml_transposing_part_and_compressed_file():
    shift = "<transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose>"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("META-INF/container.xml", "<container/>")
        file.writestr("piece.xml", xml_score(UPPER, attributes=shift))
    assert read_musicxml(archive.getvalue()).parts[0].notes[1, 2] == 70


def test_musicxml_takes_the_longest_stretch_of_one_meter():
    bar = f"<measure>{note('C', 6)}</measure>"
    other = "<measure><attributes><time><beats>2</beats><beat-type>4</beat-type></time></attributes>"
    head = f"<measure>HEAD{note('C', 6)}</measure>"
    rest = f"{other}{note('D', 4)}</measure>" + f"<measure>{note('E', 4)}</measure>" * 5
    score = read_musicxml(xml_score(head + bar + rest))
    assert score.time_signature == "2/4" and score.length_q == 12
    assert score.parts[0].notes[0].tolist()[:3] == [0, 2, 62]


@pytest.mark.parametrize("data", [b"", b"<score-timewise/>", b"not xml", b"<score-partwise/>", b"PK\x03\x04rest"])
def test_musicxml_refuses_other_files(data: bytes):
    with pytest.raises(MusicXmlError):
        read_musicxml(data)


def test_freedoom_songs_keep_programs_drums_and_tempo(tmp_path):
    midi = mido.MidiFile(ticks_per_beat=96)
    track = mido.MidiTrack()
    midi.tracks.append(track)
    track.append(mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(125)))
    track.append(mido.Message("program_change", channel=2, program=30))
    for _ in range(32):
        track.append(mido.Message("note_on", channel=2, note=45, velocity=100))
        track.append(mido.Message("note_on", channel=9, note=36, velocity=127))
        track.append(mido.Message("note_off", channel=9, note=36, velocity=0))
        track.append(mido.Message("note_on", channel=2, note=45, velocity=0, time=48))
        track.append(mido.Message("note_on", channel=9, note=42, velocity=64, time=48))
        track.append(mido.Message("note_off", channel=9, note=42, velocity=0))
    stream = io.BytesIO()
    midi.save(file=stream)
    data = stream.getvalue()
    wad = tmp_path / "freedoom1.wad"
    entries = struct.pack("<ii8s", 12, len(data), b"D_E1M1\0\0") * 2 + struct.pack("<ii8s", 12, 4, b"THINGS\0\0")
    wad.write_bytes(b"IWAD" + struct.pack("<ii", 3, 12 + len(data)) + data + entries)
    (score,) = read_freedoom([wad])
    assert score.work_id == "freedoom/freedoom1/d_e1m1" and score.time_signature == "4/4"
    assert score.bpm == pytest.approx(125, abs=0.01) and score.length_q == 32 and "BSD" in score.license
    # The last drum hit falls on the end and is left out.
    assert [(p.program, p.is_drums, len(p.notes)) for p in score.parts] == [(30, False, 32), (0, True, 63)]
    np.testing.assert_allclose(score.parts[0].notes[3], [3, 0.5, 45, 100 / 127])
    wad.write_bytes(b"IWAD" + struct.pack("<ii", 3, 9999))
    with pytest.raises(ValueError, match="truncated"):
        read_freedoom([wad])


def test_bank_round_trip(tmp_path):
    notes = score_notes([(1 / 3, 2 / 3, 60, 0.5), (0, 1, 72, 1.0), (1e4, 0.125, 0, 0.0)])
    parts = (Part("Stimme \u00e4", None, False, notes), Part("", 12, True, notes[:0]), Part("b", 0, False, notes[1:]))
    score = Score("a/b", "Title", "traditional", "a", "free", parts, "6/8", None, 0.5, 12.5, None)
    other = Score("c", "Other", "X", "c", "free", parts[:1], "2/2", "Bb minor", 0.0, 8.0, 93.5)
    path = tmp_path / "new" / "bank.npz"
    save_bank(path, [score, other])
    back = load_bank(path)
    assert [p.name for p in path.parent.iterdir()] == ["bank.npz"]
    for before, after in zip([score, other], back, strict=True):
        for a, b in zip(before.parts, after.parts, strict=True):
            assert (a.name, a.program, a.is_drums) == (b.name, b.program, b.is_drums)
            np.testing.assert_allclose(a.notes[:, :3], b.notes[:, :3], atol=1 / 20160)
            np.testing.assert_allclose(a.notes[:, 3], b.notes[:, 3], atol=1 / 254)
        assert [getattr(before, f) for f in ("work_id", "title", "key", "pickup_q", "bpm", "time_signature")] == [
            getattr(after, f) for f in ("work_id", "title", "key", "pickup_q", "bpm", "time_signature")
        ]
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="not a score bank"):
        load_bank(path)
    with pytest.raises(ValueError, match="no such"):
        load_bank(tmp_path / "none.npz")


def test_meters():
    assert [bar_q(m) for m in ("4/4", "3/4", "6/8", "2/2")] == [4, 3, 3, 4]
    assert [beat_q(m) for m in ("4/4", "3/8", "6/8", "2/2", "12/8")] == [1, 0.5, 1.5, 2, 1.5]
    with pytest.raises(ValueError, match="time_signature"):
        bar_q("4/3")


def test_duplicates_cannot_be_in_two_splits():
    line = "cdef gabc'|c'bag fedc|cegc' gece|c8|"
    one = tune(line, extra="T:ignored\n")
    again = tune(line.replace("c8", "c4c4"))
    other = tune("gfed cBAG|GABc defg|gece gece|g8|")
    named = [replace(s, work_id=f"w{k}") for k, s in enumerate((one, again, other))]
    kept = merge_duplicates(named)
    assert [s.work_id for s in kept] == ["w0", "w0"]  # the same notes once; another tune of that title with its work


def test_licences_of_what_is_loaded():
    wheel = find_music21()
    assert find_soundfont().suffix in (".sf2", ".sf3")
    restricted = set()
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            path = name.removeprefix(CORPUS)
            if path == name or not path.endswith((".abc", ".mxl", ".xml", ".musicxml", ".krn")):
                continue
            data = archive.read(name)
            if path.endswith(".mxl"):
                with zipfile.ZipFile(io.BytesIO(data)) as inner:
                    data = b" ".join(inner.read(n) for n in inner.namelist())
            lower = data.lower()
            if any(words in lower for words in FORBIDDEN_WORDS):
                restricted.add(path)
            if path.split("/")[0] in FORBIDDEN_FOLDERS or path.endswith(".krn") or path in restricted:
                assert licence_of(path) is None and refusal_of(path), path
    assert len(restricted) > 1300  # the search above does find what it is for
    scores = load_scores(("folk", "classical"))
    assert len({s.work_id for s in scores}) >= 500
    refused = {path.rsplit(".", 1)[0] for path in restricted}
    for score in scores:
        assert score.collection not in FORBIDDEN_FOLDERS and score.work_id.split("/")[0] not in FORBIDDEN_FOLDERS
        assert score.license and not forbidden_words(score.license)
        assert score.work_id not in refused
    assert {"bach/bwv277", "bach/bwv281", "bach/bwv366"} & refused


def test_loaded_scores_are_sound():
    scores = load_scores(("folk", "classical"))
    by_id = {s.work_id: s for s in scores}
    assert len(scores) > 4000 and len(scores) == len(load_scores(("classical", "folk")))
    for score in scores:
        assert score.title and score.composer and score.parts and 0 <= score.pickup_q < bar_q(score.time_signature)
        bars = (score.length_q - score.pickup_q) / bar_q(score.time_signature)
        assert abs(bars - round(bars)) < 1e-3, score.work_id
        for part in score.parts:
            assert part.notes.shape[1] == 4 and len(part.notes) and np.isfinite(part.notes).all()
            assert (part.notes[:, 1] > 0).all() and (np.diff(part.notes[:, 0]) >= 0).all()
            assert part.notes[:, 0].min() >= 0 and (part.notes[:, 0] + part.notes[:, 1]).max() < score.length_q + 4.001
    chorale = by_id["bach/bwv66.6"]
    assert chorale.time_signature == "4/4" and chorale.pickup_q == 1.0 and len(chorale.parts) == 4
    assert chorale.key == "Gb minor" and chorale.parts[0].notes[:4, 2].tolist() == [73, 71, 69, 71]
    enchanted = by_id["oneills1850/0001"]
    assert enchanted.time_signature == "2/4" and enchanted.key == "G minor"
    assert enchanted.parts[0].notes[:4, 2].tolist() == [67, 69, 70, 72]
    with pytest.raises(ValueError, match="sources"):
        load_scores(("essen",))


@pytest.mark.parametrize("find", [find_soundfont, find_music21, find_freedoom])
def test_given_paths_are_checked(find, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"something else")
    for path in (wrong, tmp_path / "absent"):
        with pytest.raises(ValueError, match=path.name):
            find(path)


def test_a_tune_becomes_a_midi_file(tmp_path):
    (tmp_path / "a.abc").write_text("X:3\nT:One\nM:3/4\nL:1/4\nQ:1/4=90\nK:G\nD|G2B|d2B|c2A|G2D|E2F|G3|\n")
    (tmp_path / "b.musicxml").write_bytes(xml_score(UPPER, LOWER))
    to_midi.main([str(tmp_path / "a.abc")])
    tune = Played.load(tmp_path / "a.mid")
    assert (tune.time_signature, tune.bpm, tune.key, tune.roles) == ("3/4", 90.0, "G major", ("lead",))
    assert tune.notes()[:2, [0, 2]].tolist() == [[2.0, 62.0], [3.0, 67.0]]  # the upbeat ends a bar of rest
    to_midi.main([str(tmp_path / "b.musicxml"), "--out", str(tmp_path / "c.mid")])
    assert len(Played.load(tmp_path / "c.mid").notes()) > 8
    for words, message in ((["a.abc", "--tune", "4"], "the file has: 3"), (["no.xml"], "no such file")):
        with pytest.raises(ValueError, match=message):
            to_midi.main([str(tmp_path / words[0]), *words[1:]])
