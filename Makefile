# The commands of this house. `make` alone lists them; `make run` and `make test` are all that a user needs.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# Everything in the tree is tested, the crash points (docs/FAILURES.md) among it.
TEST_FLAGS ?= --all-features

.PHONY: help
help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: libtorch
libtorch: ## Bring libtorch into .libtorch, once (about 490 MB on disk)
	@scripts/libtorch.sh

.PHONY: encoder
encoder: ## Bring the sentence encoder into .encoder, once (91 MB): set TEXT_ENCODER_PATH=.encoder
	@scripts/text-encoder.sh

.PHONY: run
run: libtorch ## Build and serve on 127.0.0.1:8012, with the database ./data/coordinator.db
	$(CARGO) build --release --locked --bins
	exec $${CARGO_TARGET_DIR:-target}/release/agent-management serve

.PHONY: test
test: libtorch ## Run every test, two at a time on each core: many wait for processes
	@export PATH="$$PATH:$$(scripts/test-tools.sh)" RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$((2 * $$(nproc)))}; \
	set -x; $(CARGO) test --locked --workspace --no-fail-fast $(TEST_FLAGS)

.PHONY: lint
lint: libtorch ## Check formatting, and clippy with warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings

.PHONY: deny
deny: ## Check licences, bans and sources of the dependency tree (needs cargo-deny)
	$(CARGO) deny --locked check --hide-inclusion-graph licenses bans sources

.PHONY: check-deploy
check-deploy: ## Check deploy/: install into a scratch root, systemd's verdict on the unit
	scripts/check-deploy.sh

.PHONY: bench
bench: libtorch ## Measure the parts and the middleware with criterion
	$(CARGO) bench --locked --bench parts --bench middleware

.PHONY: compare
compare: libtorch ## Measure the service against the monolith's stack and four workflow engines (needs wrk, npm)
	scripts/compare.sh

.PHONY: compare-builds
compare-builds: libtorch ## Measure this tree beside the commit BASE, turn by turn (needs wrk)
	scripts/compare-builds.sh $(BASE)

.PHONY: build-times
build-times: libtorch ## Measure how long builds take, from clean and after an edit (half an hour)
	scripts/build-times.sh

.PHONY: bench-audit
bench-audit: libtorch ## Measure the security routes at a million audit entries, beside full scans
	scripts/audit-scale.sh

.PHONY: bench-scale
bench-scale: libtorch ## Measure the service at a million rows beside a single page, write docs/SCALE.md (needs wrk)
	scripts/bench-scale.sh

.PHONY: bench-economy
bench-economy: libtorch ## Measure the marketplace and the ledger at a million lines, simulate rings, write docs/ECONOMY.md (needs wrk)
	scripts/bench-economy.sh

.PHONY: bench-performance
bench-performance: libtorch ## Measure profiles at 100,000 beside 1,000, write docs/METHODS.md (needs wrk)
	scripts/bench-performance.sh

.PHONY: bench-deployments
bench-deployments: libtorch ## Measure 50 instances at rest, repairs and the proxy, write docs/DEPLOYMENTS.md (needs wrk)
	scripts/bench-deployments.sh

.PHONY: proofs
proofs: libtorch ## Prove, verify with snarkjs, refuse altered proofs, write docs/PROOFS.md (needs node, npm)
	scripts/proofs.sh

.PHONY: systemd-guest
systemd-guest: libtorch ## Run the units under a real systemd in a guest, kill what they run (root, debootstrap)
	scripts/systemd-guest.sh

.PHONY: bench-jobs
bench-jobs: libtorch ## Measure what 10 000 open jobs cost at rest
	scripts/jobs-at-rest.sh

.PHONY: economy-month
economy-month: libtorch ## Let 1000 simulated agents trade for a month with crashes, and verify the books (some minutes)
	@export ECONOMY_AGENTS=1000 ECONOMY_HALF_DAYS=60; \
	$(CARGO) test --locked --all-features --test it -- --exact crash::market_month::agents_trade_with_crashes_and_the_books_balance --nocapture

.PHONY: bench-portfolio
bench-portfolio: ## Measure the portfolio optimisers beside PyPortfolioOpt, 500 assets on one core
	scripts/bench-portfolio.sh

.PHONY: bench-search
bench-search: ## Compare the search for settings with Optuna on three functions
	scripts/bench-search.sh

.PHONY: bench-gym-bridge
bench-gym-bridge: libtorch ## Measure a training through a bridge beside Gymnasium's own steps
	scripts/bench-gym-bridge.sh

.PHONY: bench-meta
bench-meta: libtorch ## Train meta-learning's gates, measure MAML beside plain PyTorch on one core
	scripts/bench-meta.sh

.PHONY: fairness
fairness: libtorch ## Measure by how much one principal's flood delays another's single requests
	scripts/fairness.sh

.PHONY: fuzz-http
fuzz-http: libtorch ## Send 100 000 seeded random requests under 3 GB of memory (five minutes); fails on a 5xx or kept memory
	scripts/fuzz-http.sh

.PHONY: bombs
bombs: libtorch ## Send requests that ask for too much work, alone and 32 at once, under 3 GB of memory
	scripts/bombs.sh

.PHONY: message-load
message-load: libtorch ## Measure messages between agents: 5000 sockets, 2000 messages a second
	scripts/message-load.sh

.PHONY: rl-serving
rl-serving: libtorch ## Measure how policies answer, alone and while a run trains (needs wrk)
	scripts/rl-serving.sh

.PHONY: rl-scores
rl-scores: libtorch ## Train every row of docs/RL.md, measure speed beside stable-baselines3, write the page
	scripts/rl-scores.sh
