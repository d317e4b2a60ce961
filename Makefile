# `make demo` and `make test` do all the set-up themselves; `make help` lists the rest.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
SCREEN := -screen 0 1920x1200x24 +extension GLX
XVFB   := xvfb-run -a -s "$(SCREEN)"
CPU_WHEELS := https://download.pytorch.org/whl/cpu
CODE   := src tests benchmarks

# What napari's window needs and Debian or Ubuntu may lack, as `what to look for:package`.
LIBRARIES := libEGL.so.1:libegl1 libGL.so.1:libgl1 libdbus-1.so.3:libdbus-1-3 \
    libfontconfig.so.1:libfontconfig1 libglib-2.0.so.0:libglib2.0-0 \
    libxcb-cursor.so.0:libxcb-cursor0 libxcb-icccm.so.4:libxcb-icccm4 \
    libxcb-keysyms.so.1:libxcb-keysyms1 libxcb-shape.so.0:libxcb-shape0 \
    libxkbcommon-x11.so.0:libxkbcommon-x11-0
VIRTUAL_DISPLAY := xvfb-run:xvfb xauth:xauth
HEADLESS := $(if $(filter Darwin,$(shell uname -s)),,$(if $(DISPLAY)$(WAYLAND_DISPLAY),,yes))

# As many processes of tests as there are cores, but each holds torch and napari: 4 at most. More
# threads than that, in Mesa too, would only wait for each other.
WORKERS = $(shell cores=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN); echo $$((cores < 4 ? cores : 4)))
ONE_THREAD = export OMP_NUM_THREADS=1 LP_NUM_THREADS=1

# Every run of the tests has settings, store and caches of its own, and leaves none behind.
ISOLATED = home=$$(mktemp -d) && trap 'rm -rf "$$home"' EXIT && mkdir "$$home/runtime" && \
    chmod 700 "$$home/runtime" && export NAPARI_CONFIG="$$home/settings.yaml" \
    NAPARI_VIRCHOW_STORE="$$home/store" XDG_CACHE_HOME="$$home/cache" \
    XDG_DATA_HOME="$$home/data" XDG_CONFIG_HOME="$$home/config" XDG_RUNTIME_DIR="$$home/runtime" \
    HF_HOME="$$home/hub" && unset HF_TOKEN

.PHONY: help setup demo test lint test-core test-gui bench clean libraries libraries-headless
.DEFAULT_GOAL := help

help:  ## Say what can be made
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY)  ## Make .venv with everything in it

demo: $(READY) $(if $(HEADLESS),libraries-headless,libraries)  ## Open the sample slide (no display: write demo.png)
ifeq ($(HEADLESS),yes)
	@$(XVFB) $(BIN)/napari-virchow demo --screenshot demo.png
else
	@$(BIN)/napari-virchow demo
endif

test: lint test-core test-gui  ## Check everything, in windows on a virtual display

lint: $(READY)  ## Check style and types
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy

test-core: $(READY) libraries-headless  ## Run the tests that need no window
	@$(ISOLATED) && $(ONE_THREAD) QT_QPA_PLATFORM=offscreen && set -x && \
	$(BIN)/npe2 validate napari-virchow --imports && \
	$(BIN)/pytest -m "not gui" -n $(WORKERS) --dist worksteal

# Each process has a display of its own: a display has one keyboard, one cursor, one clipboard. It
# ends with its last window (-terminate), for xdist kills its processes and leaves nobody to end it.
test-gui: $(READY) libraries-headless  ## Run the tests that open real windows
	@$(ISOLATED) && $(ONE_THREAD) && unset WAYLAND_DISPLAY QT_QPA_PLATFORM && set -x && \
	$(BIN)/pytest -m gui --tx '$(WORKERS)*popen//python=xvfb-run -a -s "$(SCREEN) -terminate" $(BIN)/python' --dist worksteal

bench: $(READY)  ## Measure everything that has a target: benchmarks/results/table.md and .json
	@$(BIN)/python benchmarks/run_all.py

clean:  ## Remove .venv and what was built
	rm -rf $(VENV) build dist demo.png .pytest_cache .mypy_cache .ruff_cache src/*.egg-info
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and alone, so that nothing else can bring another one. --no-deps, because its
# own needs come with the rest and only these two wheels are wanted from that index.
$(READY): setup.cfg pyproject.toml constraints-cpu.txt $(BIN)/python
	@if command -v nvidia-smi >/dev/null 2>&1 || [ "$$(uname -s)" != Linux ]; then limit=; \
	else limit="-c constraints-cpu.txt"; \
	  $(BIN)/python -m pip install -q --no-deps --retries 1 --extra-index-url $(CPU_WHEELS) \
	    $$limit torch torchvision || exit 1; \
	fi; \
	echo "Installing napari-virchow and what it needs; the first time takes some minutes."; \
	$(BIN)/python -m pip install -q $$limit -e '.[all,test,dev]'
	@touch $@

$(BIN)/python:
	@for python in $(PYTHON) python3.14 python3.13 python3.12 python3.11; do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && found=$$python && break; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "napari-virchow needs Python 3.11 or newer, and none was found: install one, then say make PYTHON=/path/to/it." >&2; \
	  exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	  $(call install_packages,$$("$$found" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')); \
	fi; \
	"$$found" -m venv $(VENV)

libraries:
	@$(call install_missing,$(LIBRARIES))

libraries-headless:
	@$(call install_missing,$(LIBRARIES) $(VIRTUAL_DISPLAY))

# $(1): `what to look for:package` words. Only Linux has anything to look for.
define install_missing
[ "$$(uname -s)" = Linux ] || exit 0; \
known=$$(PATH="$$PATH:/usr/sbin:/sbin" ldconfig -p); missing=; \
for need in $(1); do \
  case "$$known" in *"$${need%%:*} "*) continue ;; esac; \
  command -v "$${need%%:*}" >/dev/null 2>&1 || missing="$$missing $${need##*:}"; \
done; \
[ -z "$$missing" ] || { $(call install_packages,$$missing); }
endef

# $(1): Debian packages. The t64 names are those of Ubuntu 24.04 and Debian 13.
define install_packages
packages="$(1)"; root=; [ "$$(id -u)" = 0 ] || root="sudo -n"; \
if ! command -v apt-get >/dev/null 2>&1 || ! $$root true 2>/dev/null; then \
  echo "These system packages are missing (Debian's names), please install them and try again: $$packages" >&2; \
  exit 1; \
fi; \
echo "Installing system packages: $$packages"; \
$$root apt-get update -qq; \
case "$$packages" in *libglib2.0-0*) \
  apt-cache show libglib2.0-0t64 >/dev/null 2>&1 && \
    packages=$$(echo "$$packages" | sed 's/libglib2.0-0/libglib2.0-0t64/') ;; \
esac; \
$$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$packages >/dev/null
endef
