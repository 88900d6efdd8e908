# make music PROMPT="..."   environment, install, out.wav from checkpoints/small
# make test                 environment, install, all fast tests in two processes; WORKERS=4 for more
PYTHON ?= python3
VENV ?= .venv
PROMPT ?= slow solo piano in A minor, 72 bpm, 4 bars
OUT ?= out.wav
SEED ?= 7
WORKERS ?= 2
BIN := $(VENV)/bin
# Training and tests are fastest with one thread a process; generation takes the cores that are free.
ONE_THREAD := OMP_NUM_THREADS=1

.PHONY: music test test-encodec test-browser load slow evaluate bench scorebook app style quality clean versions checkpoint-code docs scores

music: $(VENV)/.base
	$(BIN)/vivace generate --checkpoint checkpoints/small --prompt "$(PROMPT)" --seed $(SEED) --out "$(OUT)"

test: $(VENV)/.full
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

slow: $(VENV)/.full
	$(ONE_THREAD) $(BIN)/python -m pytest -m slow

test-browser: $(VENV)/.full
	command -v chromium >/dev/null || apt-get install -y -q chromium || $(BIN)/playwright install --with-deps chromium
	$(ONE_THREAD) $(BIN)/python -m pytest -m browser tests/page --durations=0

load: $(VENV)/.full
	$(ONE_THREAD) $(BIN)/python -m benchmarks.load --minutes 3 --clients 50

versions: $(VENV)/.full
	$(BIN)/python -m tests.versions

app: $(VENV)/.full
	$(BIN)/python app.py

# Parity with the original codec. Of its dependencies only einops is needed: torchaudio reads and writes its files.
test-encodec: $(VENV)/.full
	$(BIN)/python -m pip install --quiet --no-deps --target .cache/encodec "encodec==0.1.1" "einops>=0.8"
	$(ONE_THREAD) PYTHONPATH=.cache/encodec $(BIN)/python -m pytest -m encodec tests/autoencoder/test_autoencoder_encodec.py

evaluate: $(VENV)/.full data/scorebook/info.json
	$(ONE_THREAD) $(BIN)/python -m training.evaluate --checkpoint checkpoints/small --split test --num_clips 256 \
		--output runs/evaluate.json --html runs/evaluate.html

# Refreshes the copy of the published code in checkpoints/small; a test fails while it is stale.
checkpoint-code: $(VENV)/.full
	$(BIN)/python -m training.checkpoint_code checkpoints/small

# Refreshes the pages that are made from the code; a test fails while they are stale.
docs: $(VENV)/.full
	$(BIN)/python docs/make_pages.py

# Sixteen scores that a composer writes, not chosen: docs/samples/composed.
COMPOSER ?= checkpoints/small/composer
scores: $(VENV)/.full
	$(ONE_THREAD) $(BIN)/python docs/make_scores.py --composer $(COMPOSER)

bench: $(VENV)/.full
	$(BIN)/python -m benchmarks --threads 2 --quick

scorebook: data/scorebook/info.json

data/scorebook/info.json: | $(VENV)/.full
	$(ONE_THREAD) $(BIN)/python -m training.data.scorebook --hours 20 --seed 0 --output_dir data/scorebook

style: $(VENV)/.full
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

quality: $(VENV)/.full
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy autoencoder/autoencoder_vivace.py pipelines/*.py

$(VENV)/.base: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(VENV)/.full: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e ".[train,app,sketch,dev]"
	$(BIN)/python -m pip install --quiet --no-deps tinysoundfont musicnn
	$(BIN)/python -m training.data.sources.fetch
	@touch $@ $(VENV)/.base

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
