# make demo   three daemons and three clients on this machine: the same log everywhere, a crash, a join
# make test   everything that continuous integration runs
# make lab-long  the lab's tests, with situations that last as long as they are meant to: minutes instead of seconds; root
# make clean  remove what these made
#
# make campaign SEEDS=FIRST:LAST [JOBS=2]   random runs of whole clusters; goes on where it was interrupted
# make mutations [JOBS=2] [REPORT=FILE]     every seeded bug in turn: the random runs must find it
# make fuzz [FUZZ="packets engine"]         hostile bytes for every parser, an hour each (FUZZ_SECONDS=3600)
# make growth [SIZES="10 50"]               what a larger cluster costs, on virtual time; several minutes
# make bench [BENCH="--only latency"]       beside corosync, NATS and ZeroMQ in the lab, into bench/results; root, 90 minutes
#
# Each makes its own .venv. PYTHON names the interpreter it is made with: make demo PYTHON=python3.12

PYTHON ?= python3
METADATA := setup.cfg pyproject.toml groupcomm/_version.py

JOBS ?= 2
FUZZ_SECONDS ?= 3600

.PHONY: demo test lab-long campaign mutations fuzz growth bench clean

demo: .venv/installed
	@.venv/bin/python -m groupcomm.demo

test: .venv/installed-dev
	@.venv/bin/python tests/run_parts.py

lab-long: .venv/installed-dev
	@LAB_LONG=1 .venv/bin/python -m twisted.trial --temp-directory=.lab-long tests.lab

campaign: .venv/installed
	@.venv/bin/python -m groupcomm.testing.campaign $(SEEDS) --jobs $(JOBS)

mutations: .venv/installed
	@.venv/bin/python -m tests.mutations.run --jobs $(JOBS) $(if $(REPORT),--report $(REPORT))

fuzz: .venv/installed-dev
	@.venv/bin/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS) --work .fuzz $(FUZZ)

growth: .venv/installed
	@.venv/bin/python -m groupcomm.testing.growth $(SIZES)

bench: .venv/installed
	@.venv/bin/python -m bench --install --output bench/results $(BENCH)

.venv/installed: $(METADATA)
	@.ci/install "$(PYTHON)"

.venv/installed-dev: $(METADATA)
	@.ci/install "$(PYTHON)" dev

clean:
	rm -rf .venv .fuzz .lab-long build dist groupcomm.egg-info .mypy_cache .ruff_cache .hypothesis
