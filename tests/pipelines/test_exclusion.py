"""What a prompt excludes: read from the words, taken out of them, and kept out by guidance."""

import time

import pytest
import torch

from pipelines.vivace_music import share_of, unwanted_text
from pipelines.vivace_notes import named_instruments
from pipelines.vivace_reading import STYLES, THINGS, read_exclusion, things_in
from pipelines.vivace_sampling import Denoiser
from pipelines.vivace_theory import INSTRUMENT_WORDS, PROGRAMS

LATENT = {"output_type": "latent"}
ALL = tuple(THINGS)


@pytest.mark.parametrize(
    ("prompt", "words", "excluded"),
    [
        ("rock band without drums", "rock band", "drums"),
        ("rock band, no drums, 120 bpm", "rock band, 120 bpm", "drums"),
        ("Drumless jazz piano", "Jazz piano", "drums"),
        ("percussion-free harp, 3/4", "harp, 3/4", "drums"),
        ("jazz trio (no drums) in C major", "jazz trio in C major", "drums"),
        ("hip hop minus the beat", "hip hop", "drums"),
        ("strings instead of drums", "strings", "drums"),
        ("piano, not guitar", "piano", "guitar"),
        ("No drums. Calm harp.", "Calm harp.", "drums"),
        ("no drums", "", "drums"),
        ("don't use any drums. Rock in E minor", "Rock in E minor", "drums"),
        ("techno without drums or bass, at 120 bpm", "techno, at 120 bpm", "drums bass"),
        ("folk with no drums and no bass", "folk", "drums bass"),
        ("pop without drums, bass and guitar", "pop", "drums bass guitar"),
        ("no drums, piano and harp", "piano and harp", "drums"),  # a comma ends what "no" refuses
        ("neither drums nor bass, harp", "harp", "drums bass"),
        ("music with bass, but no drums, and piano", "music with bass, and piano", "drums"),
        ("funk without vocals/guitar", "funk", "voice guitar"),
        ("electric piano, no piano", "electric piano", "piano"),
        ("calm rock, instrumental", "calm rock, instrumental", "voice"),
        ("calm piano, no keyboards", "calm piano", "keyboard"),
        ("no bass clarinet, oboe", "oboe", "clarinet"),
    ],
)
def test_what_is_excluded_leaves_the_words(prompt, words, excluded):
    read = read_exclusion(prompt)
    assert (read.words, read.excluded, read.exclusive) == (words, tuple(excluded.split()), ())
    away = read.unwanted.split(", ")
    for name in read.excluded:
        assert set(THINGS[name][1].split(", ")) & set(away)
    assert not set(read.named) - set(read.excluded) & {name for part in away for name in things_in(part)}


@pytest.mark.parametrize(
    ("prompt", "words", "exclusive"),
    [
        ("bass and drums only, 90 bpm", "bass and drums, 90 bpm", "bass drums"),
        ("just piano and bass", "piano and bass", "piano bass"),
        ("only a piano", "solo piano", "piano"),
        ("a piece for piano only, without pedal", "a piece for solo piano, without pedal", "piano"),
        ("unaccompanied cello in G minor", "solo cello in G minor", "cello"),
        ("violin alone", "violin alone", "violin"),
        ("nothing but drums", "drums", "drums"),
        ("a cappella hymn", "choir hymn", "voice"),
    ],
)
def test_what_is_alone_excludes_the_rest(prompt, words, exclusive):
    read = read_exclusion(prompt)
    assert (read.words, read.excluded, read.exclusive) == (words, (), tuple(exclusive.split()))
    assert things_in(read.unwanted or "") == (() if "drums" in read.exclusive else ("drums",))


@pytest.mark.parametrize(
    "prompt",
    [
        "not too loud drums", "no-nonsense rock", "drum solo", "funk guitar solo", "slow solo piano in A minor",
        "calm solo piano", "not only piano but drums", "a house instrumental", "calm piano without reverb",
        "drum and bass, 170 bpm", "just a calm piano", "no strings attached pop", "  spaced ,  words ",
        "piano; in C, no key", "only 4 bars of piano",
    ],
)  # fmt: skip
def test_other_words_stay_as_they_are(prompt):
    read = read_exclusion(prompt)
    assert read.words == prompt and read.unwanted is None and unwanted_text(read, None) is None


def test_refusals_of_a_part_and_denied_refusals():
    for prompt, words in (
        ("rock, no guitar solo", "rock"), ("rock with no loud drums", "rock"),
        ("rock, never without drums", "rock, with drums"),
    ):  # fmt: skip
        read = read_exclusion(prompt)
        assert (read.words, read.unwanted) == (words, None)


def test_every_thing_is_known_by_its_name_and_reading_is_quick():
    for name in ALL:
        read = read_exclusion(f"a tune without any {name}, please")
        assert read.excluded == (name,) and read.words == "a tune, please"
    began = time.process_time()
    for words in ("a ", "no drums ", "without piano, ", "only piano and ", "with and ", " ", "very loud "):
        read_exclusion(words * 2000)
    assert time.process_time() - began < 5.0


def test_negative_prompts_join():
    assert unwanted_text(None, " ") is None and unwanted_text(None, "out of tune") == "out of tune"
    both = unwanted_text(read_exclusion("jazz without drums"), "piano, out of tune")
    assert things_in(both) == ("piano", "drums") and "out of tune" in both and "grand piano" in both
    assert share_of(both) == 1.0 and share_of("piano") == share_of(None) == 0.4


def test_the_prediction_is_led_away(tiny_pipeline):
    """Against the equation: + scale * weight (full - unwanted), nothing to items and frames without it."""
    seen = {}

    def keep(denoiser, latents, timestep, conditions, guidance, level):
        seen["full"], seen["out"] = predict(denoiser, latents, timestep, conditions, guidance, level)
        seen["conditions"] = conditions
        return seen["full"], seen["out"]

    predict = Denoiser.predict
    rows = []
    hook = tiny_pipeline.unet.register_forward_hook(lambda module, args, out: rows.append(out[0].clone()))
    asked = {"bpm": 100, "duration_s": 4.0, "num_inference_steps": 1, "guidance_scale": 3.0, "seed": 3, **LATENT}
    prompt = [(0, "calm piano without drums"), (2.0, "fast drums")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Denoiser, "predict", keep)
        tiny_pipeline(prompt, negative_guidance_scale=5.0, **asked)
    hook.remove()
    first, second, free, unwanted = rows[0]
    shown = seen["conditions"]
    full = first * shown.weights[0] + second * shown.weights[1]
    expected = free + 3.0 * (full - free) + 5.0 * shown.weights[0] * (full - unwanted)
    torch.testing.assert_close(seen["out"][0], expected, atol=1e-4, rtol=1e-4)
    assert shown.weights[0, -1] == 0.0 and torch.equal(shown.unwanted_weights[0], shown.weights[0])


def test_exclusions_change_their_own_piece_alone(tiny_pipeline):
    prompts = ["slow piano", "slow piano, no drums", "slow piano"]
    plain = tiny_pipeline("slow piano", seed=4, duration_s=2.0, **LATENT).audios[0]
    batch = tiny_pipeline(prompts, seed=4, duration_s=2.0, negative_prompt=[None, None, "drums"], **LATENT).audios
    assert torch.equal(batch[0], plain) and torch.equal(batch[1], batch[2]) and not torch.equal(batch[1], plain)
    options = {"seed": 4, "duration_s": 2.0, **LATENT}
    assert torch.equal(tiny_pipeline(prompts[1], negative_guidance_scale=0.0, **options).audios[0], plain)
    assert torch.equal(tiny_pipeline(prompts[1], guidance_scale=1.0, **options).audios[0],
                       tiny_pipeline("slow piano", guidance_scale=1.0, **options).audios[0])  # fmt: skip
    looped = tiny_pipeline([prompts[0], prompts[1]], seed=4, bars=1, bpm=120, loop=True, **LATENT).audios
    assert not torch.equal(looped[0], looped[1])
    with pytest.raises(ValueError, match="negative_guidance_scale is -1"):
        tiny_pipeline("piano", negative_guidance_scale=-1)
    with pytest.raises(ValueError, match="negative_prompt is 3; allowed: a text"):
        tiny_pipeline("piano", negative_prompt=3)


def test_a_long_piece_keeps_it_out_to_the_end(tiny_pipeline):
    from pipelines.pipeline_vivace import WINDOW

    seconds = 1.5 * WINDOW / tiny_pipeline.frame_rate
    options = {"seed": 4, "duration_s": seconds, "num_inference_steps": 1, **LATENT}
    plain, without = (tiny_pipeline(text, **options).audios[0] for text in ("slow piano", "slow piano, no drums"))
    assert (plain - without).abs().amax(0).min() > 0.0


def test_absence_is_restated_to_networks_that_know_it(tiny_pipeline):
    assert read_exclusion("drumless jazz, 90 bpm").restated == "jazz, 90 bpm, without drums"
    assert read_exclusion("just piano and bass").restated == "piano and bass, without drums"
    assert read_exclusion("no drums").restated == "without drums"
    for prompt in ("rock, no guitar", "bass and drums only", "rock"):
        assert read_exclusion(prompt).restated == read_exclusion(prompt).words
    seen = []
    encode = tiny_pipeline.encode_prompt
    tiny_pipeline.encode_prompt = lambda texts, device: (seen.append(texts), encode(texts, device))[1]
    for states in (False, True):
        tiny_pipeline.register_to_config(captions_state_absence=states)
        tiny_pipeline("slow piano, no drums", duration_s=1.0, **LATENT)
    assert [texts[0] for texts in seen] == ["slow piano", "slow piano, without drums"]


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_instrument_can_be_excluded_and_be_alone(name):
    for word in (name, *INSTRUMENT_WORDS.get(name, ())):
        if word not in (*STYLES, "heavy guitar"):  # "no heavy guitar" lets a light one play
            assert things_in(word), word
            assert read_exclusion(f"ballad, no {word}").excluded == things_in(word)
            assert read_exclusion(f"a {word} and nothing else").exclusive == things_in(word)
        assert list(named_instruments(f"tune for {word}, soft")) == [name]
