"""Arguments that several commands share; those of a piece have the names of the pipeline's own."""

import argparse
import math
import os

MODEL = ("checkpoint", "revision", "variant", "trust", "device", "dtype", "threads", "lora")  # of `add_checkpoint`


def number(text: str) -> float:
    """A finite number; whole ones as int, so that they are shown as written."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return int(value) if value.is_integer() else value


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not allowed; allowed: whole numbers from 1")
    return int(text)


def region(text: str) -> tuple[float, float]:
    """ "4:6.5" -> (4, 6.5)."""
    first, colon, last = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text} is no region; give start:end in seconds, as in 4:6.5")
    return number(first), number(last)


def adapter(text: str) -> tuple[str, float]:
    """ "style:0.8" -> ("style", 0.8); a name without a strength has 1."""
    name, colon, strength = text.rpartition(":")
    if not colon or os.path.exists(text):
        return text, 1.0
    try:
        value = float(strength)
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} has the strength {strength!r}; allowed: a number, as in {name}:0.8")
    return name, value


def add_prompt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="?", metavar="PROMPT", help="the prompt without --prompt; - = standard input")


def add_words(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("words").add_argument
    add("--prompt", help="what it should sound like; tempo, key, meter and length are read from it")
    add("--at", nargs=2, action="append", metavar=("START", "PROMPT"), help="from there on: seconds, or 'bar 5'")
    add("--morph", nargs=2, metavar=("FROM", "TO"), help="from one prompt to another, in place of --prompt")
    add("--negative_prompt", help="what it should not sound like; beside 'without drums' and the like in the prompt")
    add(
        "--sounds_like", metavar="FILE", help="recording of 1 to 60 s whose timbre and mix it is to have, not its notes"
    )
    add("--sounds_like_strength", type=number, help="0 to 1: how far its mean colour and level are taken; default 0.7")


def add_grid(parser: argparse.ArgumentParser, length: bool) -> None:
    """Tempo, meter, key, chords, and the length of what is not given."""
    add = parser.add_argument_group("grid").add_argument
    if length:
        add("--duration_s", type=number, help="length, seconds, from 0.5")
        add("--bars", type=int, help="length, bars, exact to the sample")
        add(
            "--loop", action=argparse.BooleanOptionalAction, help="the end leads into the beginning; default: if the "
            "prompt says loop",
        )  # fmt: skip
    heard = "" if length else "; default: as its tags say, or as heard in --audio"
    add("--bpm", type=number, help=f"tempo, beats a minute, 20 to 300{heard}")
    add("--beat_unit", help="the note that bpm counts: quarter, 'dotted quarter', ...; default: the meter's beat")
    add("--time_signature", help="3/4, 6/8, ...; 4/4 where there is a tempo")
    add("--key", help="'A minor', 'Bb major', F#m")
    add("--chords", help="'Am F C G', one a bar, or 'Am:2 F:2' with beats; repeated to the end")
    add("--downbeat_s", type=number, help=f"time of a first beat of a bar, seconds{heard or '; default 0'}")


def add_roles(add) -> None:
    add(
        "--roles", nargs="+", metavar="TRACK=ROLE", help="roles of tracks of a MIDI file that are not found right, by "
        "name or number as vivace info shows them: 'track 2=lead' Piano=harmony",
    )  # fmt: skip


def add_parts(add) -> None:
    add("--parts", nargs="+", metavar="ROLE", help="play these alone: lead, harmony, bass, drums")


def add_sketch(add, melody: bool = True) -> None:
    """What is composed to: a melody, unless a command takes it otherwise, and a rhythm."""
    if melody:
        add(
            "--melody", metavar="FILE", help="the lead, to which the rest is composed: a MIDI file, or a recording of "
            "one voice that hums, sings or whistles (needs swift-f0)",
        )  # fmt: skip
    add(
        "--rhythm", metavar="FILE", help="the drums, repeated to the end: a recording of taps or of a beatbox, or a "
        "MIDI file",
    )  # fmt: skip
    add(
        "--sketch_timing", choices=("grid", "original"), help="of recordings: notes on 16ths (grid, the default), or "
        "where they were played",
    )  # fmt: skip


def add_notes(parser: argparse.ArgumentParser, stems: bool) -> None:
    """A score, what of it plays, and what is written of it beside the audio."""
    add = parser.add_argument_group("notes, with a checkpoint that plays them").add_argument
    how = "gives length, tempo, meter and key where nothing else does"
    if not stems:
        how = "alone, the bars whose notes differ from those of --audio are made anew"
    add("--score", metavar="FILE", help=f"MIDI file with the notes to play; {how}")
    add_roles(add)
    add_parts(add)
    add("--midi", action="store_true", help="write the notes beside the audio: song.wav has song.mid")
    if stems:
        add(
            "--stems", action="store_true", default=None, help="write each part beside it, as song.bass.wav; their sum "
            "is the piece, sample for sample",
        )  # fmt: skip
        add(
            "--compose", action=argparse.BooleanOptionalAction, help="whether the composer writes the notes; default: "
            "if there is one and no --score is given; with --score it writes the roles that have no notes",
        )  # fmt: skip
        add_sketch(add)
        add("--form", help="sections of what is composed: AABA, AA'BA'")


def add_strengths(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("strength and sampling").add_argument
    add("--seed", type=int, help="the same seed gives the same file; default: at random, and printed")
    add("--num_waveforms_per_prompt", type=int, help="pieces to make, with the seeds seed, seed + 1, ...; default 1")
    add("--num_inference_steps", type=int, help="1 to 1000; more is finer and slower; default: the checkpoint's")
    add("--guidance_scale", type=number, help="how strictly to follow the request; up to 1 = off, twice as fast")
    add("--grid_guidance_scale", type=number, help="the same for tempo, key, meter and chords alone")
    add("--negative_guidance_scale", type=number, help="how strongly to keep out what is excluded; 0 = not at all")
    add("--guidance_rescale", type=number, help="0 to 1: brings the guided level back to the unguided; default 0")
    add("--guidance_interval", type=number, nargs=2, metavar=("LOW", "HIGH"), help="noise levels with guidance, 0 to 1")
    add("--apg_eta", type=number, help="0 to 1: share kept of what guidance adds along the prediction")
    add("--apg_norm_threshold", type=number, help="limit of what guidance adds, root mean square; default none")
    add("--apg_momentum", type=number, help="-1 to 1: of the step before; default 0")


def add_sound(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("sound").add_argument
    add("--normalize", action=argparse.BooleanOptionalAction, help="bring it to --loudness_lufs; default yes")
    add("--loudness_lufs", type=number, help="integrated loudness, LUFS; default -16")
    add("--true_peak_dbtp", type=number, help="highest true peak, dBTP; default -1")
    add("--tilt_db", type=number, help="brightness: dB from 100 Hz to 10 kHz, -24 to 24")
    add("--compression_ratio", type=number, help="1 to 20: how steady the level is kept; 1 = off")
    add("--fade_in_s", type=number, help="seconds")
    add("--fade_out_s", type=number, help="seconds")


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Which model, where, in what precision."""
    add = parser.add_argument_group("model").add_argument
    add("--checkpoint", help="folder, or with --trust user/name on the Hub; default checkpoints/small")
    add("--trust", action="store_true", help="consent to run the code of a --checkpoint from the Hub")
    add("--revision", help="branch, tag or commit on the Hub")
    add("--variant", help="of the weight files, as in fp16")
    add("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:1, mps")
    add("--threads", type=positive, help="CPU threads; default: cores with nothing else to do, see `vivace doctor`")
    add("--dtype", choices=("float32", "float16", "bfloat16"), default="float32", help="precision; default float32")


def add_lora(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lora", type=adapter, action="append", metavar="LORA[:STRENGTH]",
        help="LoRA adapter to load: folder, file or user/name on the Hub, with its strength, as in style:0.8; default "
        "1; may be given several times",
    )  # fmt: skip


def add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", help="file to write, .wav or .flac (16 bit), .mp3, .ogg; default out.wav; - = a WAV to standard output"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, one object a line, in place of text")


def add_batch(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("many pieces").add_argument
    add(
        "--batch", metavar="FILE",
        help="JSONL, a request a line with the argument names above (and 'out', a file name); arguments of the "
        "command line hold for lines without their own; --out is then a folder",
    )  # fmt: skip
    add("--skip_existing", action="store_true", help="leave out lines whose file is there: go on with a batch")
