# make demo       the whole way on the example pieces: audio, features, training, a converted recording (a few minutes)
# make demo-hum   the same for the second system: guitar out of a hum
# make test       the whole test suite;  make test-fast  without the slow tests
# make lint       the linter and the formatter's check
# make clean      takes away .venv and what the demos made
#
# README.md has the same steps as plain pip and python lines.

VENV := .venv
PYTHON := $(VENV)/bin/python

# Where bytecode is switched off, every command would compile all of TensorFlow again.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo demo-hum test test-fast lint clean

# The piece that the split of seed 0 holds out, so that the network has never seen it (tests/test_demo.py).
PIECE := beethoven_ode_to_joy

demo: $(VENV)/installed
	$(PYTHON) synthesize_audios.py --midi_path docs/examples --audios_path demo/audios \
	  --instruments keyboard_acoustic guitar_acoustic
	$(PYTHON) compute_features.py --audios_path demo/audios --features_path demo/features
	$(PYTHON) train.py --dataset_path demo/features --origin keyboard_acoustic --target guitar_acoustic \
	  --models_path demo/models --validation_split 0.15 --base_filters 8 --batch_size 1 --epochs 20 \
	  --gen_lr 1e-3 --disc_lr 1e-4 --beta_1 0.5 --lr_schedule linear --gpu -1
	$(PYTHON) predict.py --model demo/models/keyboard_acoustic_2_guitar_acoustic --gpu -1 \
	  --input demo/audios/keyboard_acoustic/$(PIECE).wav --output demo/guitar.wav --plot demo/guitar.png
	$(PYTHON) evaluate.py --model demo/models/keyboard_acoustic_2_guitar_acoustic --gpu -1 \
	  --origin_audio demo/audios/keyboard_acoustic/$(PIECE).wav \
	  --target_audio demo/audios/guitar_acoustic/$(PIECE).wav --output demo/report
	@echo
	@echo "Went in:  demo/audios/keyboard_acoustic/$(PIECE).wav, which the network was not trained on"
	@echo "Came out: demo/guitar.wav (the truth: demo/audios/guitar_acoustic/$(PIECE).wav)"
	@echo "Picture:  demo/guitar.png; beside the truth: $$(ls -d demo/models/*/samples/* | tail -n 1)/spectrogram.png"
	@echo "Weights:  demo/models/keyboard_acoustic_2_guitar_acoustic/generator.h5"
	@echo "Page:     demo/report/report.html, to listen and compare"
	@$(PYTHON) -c "import csv; \
	  row = list(csv.DictReader(open('demo/models/keyboard_acoustic_2_guitar_acoustic/history.csv')))[-1]; \
	  print('How near: validation MAE {:.4f}, where copying the input gives {:.4f}'.format( \
	  float(row['val_mae']), float(row['val_copy_mae'])))"

demo-hum: $(VENV)/installed
	$(PYTHON) synthesize_audios.py --midi_path docs/examples --audios_path demo/audios --instruments guitar_acoustic
	$(PYTHON) train_hum2guitar.py --guitar_dir demo/audios/guitar_acoustic --humming_dir docs/examples/hum \
	  --models_path demo/models --features_path demo/hum2guitar --out_dir demo/output --base_filters 4 --lr 1e-3 \
	  --n_global_epochs 2 --n_fixed_global_epochs 1 --n_joint_epochs 1 --gpu -1
	$(PYTHON) predict.py --model demo/models/hum2guitar/generator.h5 --gpu -1 \
	  --input docs/examples/hum/hum.ogg --output demo/hum_as_guitar.wav --plot demo/hum_as_guitar.png
	@echo
	@echo "Went in:  docs/examples/hum/hum.ogg"
	@echo "Came out: demo/hum_as_guitar.wav"
	@echo "Picture:  demo/hum_as_guitar.png; more in demo/output"
	@echo "Weights:  demo/models/hum2guitar/generator.h5"

test: $(VENV)/installed-dev
	$(PYTHON) -m pytest

test-fast: $(VENV)/installed-dev
	$(PYTHON) -m pytest -m "not slow"

lint: $(VENV)/installed-dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

clean:
	rm -rf $(VENV) demo .pytest_cache .ruff_cache __pycache__ tests/__pycache__

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

# Compiling all of the packages' modules takes longer than compiling those that are used, when they are.
$(VENV)/installed: requirements.txt | $(PYTHON)
	$(PYTHON) -m pip install --quiet --upgrade pip
	$(PYTHON) -m pip install --quiet --no-compile -r requirements.txt
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(PYTHON) -m pip install --quiet --no-compile -r requirements-dev.txt
	@touch $@
