# Every target works from a fresh clone on a machine that has Python 3.11, make and the registries.
BIN := .venv/bin

# Where it is set, each of the many processes of the tests would compile what it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test test-comfyui test-nights test-room test-s3 test-ui screenshots test-long bench lock clean

setup: .venv/ready

.venv/ready: requirements.lock pyproject.toml scripts/setup
	scripts/setup

demo: setup
	scripts/demo

test: setup
	scripts/check

test-comfyui: setup
	$(BIN)/python scripts/real-comfyui
	$(BIN)/pytest -m "real and not long" tests

test-nights: setup
	$(BIN)/pytest -n 6 --dist loadgroup -m "(nights or prefect) and not room and not real and not long" tests

# A Prefect server and a Prefect worker for each process: more of them than cores take longer.
test-room: setup
	$(BIN)/pytest -n 2 --dist loadgroup -m "room and not long" tests

test-s3: setup
	$(BIN)/pytest -n 3 --share-s3 -m "s3 and not long" tests

# In the Chromium that NIGHTKILN_CHROMIUM names, else the one on the path, else Debian's, installed.
# UI="ui and not long" is the sample of it that .ci/run takes.
UI := ui
test-ui: setup
	NIGHTKILN_CHROMIUM="$$($(BIN)/python -m tests.ui.chromium)" && export NIGHTKILN_CHROMIUM && \
	  $(BIN)/pytest -m "$(UI)" tests/ui

# The pictures of README and docs, taken by the tests of the pages; look at each before committing it.
screenshots: setup
	NIGHTKILN_CHROMIUM="$$($(BIN)/python -m tests.ui.chromium)" && export NIGHTKILN_CHROMIUM && \
	  NIGHTKILN_SCREENSHOTS=docs/img $(BIN)/pytest -m ui tests/ui/test_room_page.py tests/ui/test_room_night.py

test-long: setup
	$(BIN)/python scripts/real-comfyui
	$(BIN)/pytest -m "long and not ui" tests
	$(BIN)/pytest -n 4 --dist loadgroup --hypothesis-profile=whole \
	  -m "hypothesis and not real and not long" tests

bench: setup
	$(BIN)/python -m tests.benchmarks

# Needs uv; everybody else only reads the lock.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --all-extras pyproject.toml -o requirements.lock

clean:
	rm -rf .venv build dist
