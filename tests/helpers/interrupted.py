"""A training run that is stopped and goes on."""

from collections.abc import Callable

import pytest

from training.run.trainer import Trainer


def run_in_two(main: Callable[[list[str]], object], arguments: list[str], step: int) -> None:
    """Give a stage's command twice: the first time it ends as by Ctrl-C once the checkpoint of `step` is written."""
    save = Trainer._save

    def stop(trainer: Trainer) -> None:
        save(trainer)
        if trainer.step == step:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_save", stop)
        with pytest.raises(KeyboardInterrupt):
            main(arguments)
    main(arguments)
