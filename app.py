"""The page in the browser: words, tempo, bars and chords -> music, and what there is to do with it.

    python app.py            # plays checkpoints/small, or the folder or Hub id in VIVACE_MODEL; LoRAs in VIVACE_LORA

The parts stand in page/; they talk only to a pipeline.
"""

import os

from page.build import launch_options, make_app
from page.desk import Desk
from page.model import load_model, model_name
from page.sessions import Sessions, takes_folder
from pipelines.hub import quiet_libraries
from pipelines.threads import set_threads


def main() -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    quiet_libraries()
    set_threads()
    shared = [os.environ.get(name) for name in ("SPACE_ID", "GRADIO_SHARE", "GRADIO_ROOT_PATH")]
    own = not any(shared) and os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1") in ("127.0.0.1", "localhost")
    try:
        sessions = Sessions(own=own, kept=takes_folder() if own else None)
        desk = Desk(load_model(model_name()), model_name(), sessions)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"error: {error}") from error
    try:
        make_app(desk).queue(default_concurrency_limit=None, max_size=400).launch(**launch_options(desk))
    finally:
        desk.sessions.close()


if __name__ == "__main__":
    main()
