"""The page in the browser: words, tempo, bars, chords and notes -> music, and what there is to do with it."""

import argparse
import os
import runpy

from pipelines.commands import arguments

EXAMPLES = """examples:
  vivace app                                  opens on http://127.0.0.1:7860
  vivace app --checkpoint my_model --port 8000
  vivace app --lora mine:0.8                  adapters can be chosen on the page
  vivace app --host 0.0.0.0                   for others in the network too"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--checkpoint", help="folder, or user/name on the Hub, whose code is then run here; default checkpoints/small")
    arguments.add_lora(parser)
    add("--host", help="address to answer at; default 127.0.0.1, this machine alone")
    add("--port", type=arguments.positive, help="default: the first that is free from 7860 on")


def run(args: argparse.Namespace) -> int:
    # The page is set up by the variables that a Space sets.
    variables = {"VIVACE_MODEL": args.checkpoint, "GRADIO_SERVER_NAME": args.host, "GRADIO_SERVER_PORT": args.port}
    if args.lora:
        variables["VIVACE_LORA"] = ", ".join(f"{name}:{strength!r}" for name, strength in args.lora)
    os.environ |= {name: str(value) for name, value in variables.items() if value is not None}
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ImportError("the page needs gradio; install it: pip install 'vivace-music[app]'") from error
    runpy.run_module("app", run_name="__main__")  # the page uses the pipeline, and not the other way round
    return 0
