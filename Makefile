# make demo       a piano becomes a guitar; then the whole way with a model of your own: audio, features, training (minutes)
# make demo-hum   the same for the second system: a hum becomes a guitar
# make models     train the models in models/ again (hours)
# make web        convert in the browser: http://127.0.0.1:8000/ (PORT=8001 for another port)
# make web-dist   the folder web/dist, which any static host can serve
# make test       all tests
# make test-fast  the tests that take seconds
# make soak       damaged files for an hour (SOAK_SECONDS=60 for a minute), and kills
# make lint       the linter, the formatter's check and the types
# make clean      remove .venv, caches, and what the demos and web made
#
# README.md gives the commands for machines without make.

VENV := .venv
PYTHON := $(VENV)/bin/python

# If bytecode is switched off in the environment, every command would compile all of TensorFlow again.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo demo-hum models web web-dist test test-fast soak lint clean

# The piece that the split with seed 0 holds out, so that the network is not trained on it (tests/test_documentation.py).
PIECE := beethoven_ode_to_joy

EXAMPLE := docs/examples/audio/keyboard_acoustic/bach_prelude_c_major.wav
HUM := docs/examples/hum/hum.ogg

demo: $(VENV)/installed
	$(PYTHON) predict.py --to guitar --input $(EXAMPLE) --output demo/piano.guitar.wav --plot demo/piano.guitar.png
	@echo
	@echo "Input:    $(EXAMPLE)"
	@echo "Output:   demo/piano.guitar.wav; the spectrograms of both are in demo/piano.guitar.png"
	@echo "Yours:    $(PYTHON) predict.py --to guitar --input RECORDING"
	@echo
	@echo "Now a small model of your own, from the data to the result. This takes some minutes."
	@echo
	$(PYTHON) synthesize_audios.py --midi_path docs/examples --audios_path demo/audios --duration_rate 1 \
	  --instruments keyboard_acoustic guitar_acoustic
	$(PYTHON) compute_features.py --audios_path demo/audios --features_path demo/features
	$(PYTHON) train.py --dataset_path demo/features --origin keyboard_acoustic --target guitar_acoustic \
	  --models_path demo/models --validation_split 0.15 --base_filters 8 --batch_size 1 --epochs 20 --gpu -1
	$(PYTHON) predict.py --model demo/models/keyboard_acoustic_2_guitar_acoustic --gpu -1 \
	  --input demo/audios/keyboard_acoustic/$(PIECE).wav --output demo/guitar.wav --plot demo/guitar.png
	$(PYTHON) evaluate.py --model demo/models/keyboard_acoustic_2_guitar_acoustic \
	  --origin_audio demo/audios/keyboard_acoustic/$(PIECE).wav \
	  --target_audio demo/audios/guitar_acoustic/$(PIECE).wav --output demo/report
	@echo
	@echo "Input:    demo/audios/keyboard_acoustic/$(PIECE).wav, which was held out of training"
	@echo "Output:   demo/guitar.wav"
	@echo "Target:   demo/audios/guitar_acoustic/$(PIECE).wav"
	@echo "Pictures: demo/guitar.png; with the target: $$(ls -d demo/models/*/samples/* | tail -n 1)/spectrogram.png"
	@echo "Model:    demo/models/keyboard_acoustic_2_guitar_acoustic; its history.png shows how it learned"
	@echo "Page:     demo/report/report.html, to listen and compare"
	@echo "Yours:    $(PYTHON) predict.py --to guitar --input RECORDING converts with the large model"

demo-hum: $(VENV)/installed
	$(PYTHON) predict.py --to hum2guitar --input $(HUM) --output demo/hum.guitar.wav --plot demo/hum.guitar.png
	@echo
	@echo "Input:    $(HUM)"
	@echo "Output:   demo/hum.guitar.wav; the spectrograms of both are in demo/hum.guitar.png"
	@echo "Yours:    $(PYTHON) predict.py --to hum2guitar --input RECORDING"
	@echo
	@echo "Now a small model of your own. This takes some minutes."
	@echo
	$(PYTHON) synthesize_audios.py --midi_path docs/examples --audios_path demo/audios --duration_rate 1 \
	  --instruments guitar_acoustic
	$(PYTHON) train_hum2guitar.py --guitar_dir demo/audios/guitar_acoustic --humming_dir docs/examples/hum \
	  --models_path demo/models --features_path demo/hum2guitar --out_dir demo/output --base_filters 4 --lr 1e-3 \
	  --n_global_epochs 2 --n_fixed_global_epochs 1 --n_joint_epochs 1 --gpu -1
	$(PYTHON) predict.py --model demo/models/hum2guitar/generator.h5 --gpu -1 \
	  --input $(HUM) --output demo/hum_as_guitar.wav --plot demo/hum_as_guitar.png
	@echo
	@echo "Input:    $(HUM)"
	@echo "Output:   demo/hum_as_guitar.wav"
	@echo "Pictures: demo/hum_as_guitar.png; more in demo/output"
	@echo "Weights:  demo/models/hum2guitar/generator.h5"

models: $(VENV)/installed
	PYTHON=$(PYTHON) bash models/train.sh

PORT := 8000

web: $(VENV)/installed web/node_modules/installed
	$(PYTHON) -m web.serve --port $(PORT)

web-dist: $(VENV)/installed web/node_modules/installed
	$(PYTHON) -m web.serve --build_only

# Without npm or its registry, the tests of the page are skipped.
test: $(VENV)/installed-dev
	@if command -v npm > /dev/null; then $(MAKE) --no-print-directory web/node_modules/installed || true; fi
	$(PYTHON) -m pytest --durations=20

test-fast: $(VENV)/installed-dev
	$(PYTHON) -m pytest -m "not slow"

SOAK_SECONDS := 3600

soak: $(VENV)/installed-dev
	$(PYTHON) tests/fuzz/fuzz.py --seconds $(SOAK_SECONDS) --first $$(date +%s)
	KILLS=20 $(PYTHON) -m pytest tests/training/test_loop.py -k killed

lint: $(VENV)/installed-dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy .

clean:
	rm -rf $(VENV) demo web/dist web/node_modules .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python of 3.10 to 3.13 that can make virtual environments.
$(PYTHON):
	@for python in python3 python3.13 python3.12 python3.11 python3.10 none; do \
	  if $$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
	    2> /dev/null; then break; fi; \
	done; \
	if [ $$python = none ]; then \
	  echo "expected Python 3.10 to 3.13 with its venv module (Debian: apt-get install python3-venv)" >&2; exit 1; \
	fi; \
	echo "$$python -m venv $(VENV)"; $$python -m venv $(VENV)

# --no-compile: compiling every module of the packages takes longer than compiling the used ones when they are imported.
$(VENV)/installed: requirements.txt conversion/requirements.txt | $(PYTHON)
	$(PYTHON) -m pip install --quiet --upgrade pip
	$(PYTHON) -m pip install --quiet --no-compile -r requirements.txt
	@touch $@

$(VENV)/installed-dev: tests/requirements.txt $(VENV)/installed
	$(PYTHON) -m pip install --quiet --no-compile -r tests/requirements.txt
	@touch $@

# ONNX Runtime for the browser.
web/node_modules/installed: web/package.json web/package-lock.json
	npm ci --prefix web --ignore-scripts --no-audit --no-fund
	@touch $@
