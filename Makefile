# Fullon Master API. `make help` lists the targets.

CARGO ?= cargo
FULLON = $(or $(CARGO_TARGET_DIR),target)/release/fullon
PREFIX ?= /usr/local

.DEFAULT_GOAL := help
.PHONY: help build daemon-start daemon-stop daemon-restart daemon-status daemon-logs require-built run
.PHONY: test test-quick test-tools soak fuzz lint bench openapi docs third-party install uninstall

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1 \2/p' $(MAKEFILE_LIST) | while read -r target text; do printf '%-16s %s\n' "$$target" "$$text"; done

build: ## Build the release binary
	@$(CARGO) build --release --locked --bin fullon

# For targets that use the built program without building it.
require-built:
	@[ -x $(FULLON) ] || { echo '$(FULLON) does not exist: run `make daemon-start` first' >&2; exit 1; }

daemon-start: build ## Build the program and start the daemon in the background
	$(FULLON) start

daemon-stop: require-built ## Stop the daemon (builds nothing)
	$(FULLON) stop

daemon-restart: build ## Build the program and restart the daemon without downtime
	$(FULLON) restart

daemon-status: require-built ## Show whether the daemon is running and healthy (builds nothing)
	$(FULLON) status

daemon-logs: require-built ## Follow the log (builds nothing)
	$(FULLON) logs

run: ## Run the daemon in the foreground; rebuild and start again when a source changes
	@CARGO="$(CARGO)" exec sh scripts/run-and-rebuild.sh

test-tools: ## Install the tools that the tests need besides Rust and a C compiler
	sh scripts/install-test-tools.sh

# Most tests spend their time waiting, so more of them run at once than there are processors. Tests
# that need much of the machine take turns (tests/it/support/groups.rs).
export RUST_TEST_THREADS ?= $(shell echo $$((3 * $$(nproc))))

test-quick: ## Run the unit tests and one test of a daemon (start, status, restart, stop)
	sh scripts/run-tests.sh $(CARGO) test --locked --lib
	sh scripts/run-tests.sh $(CARGO) test --locked --test it smoke::

test: test-tools ## Run all tests
	sh scripts/run-tests.sh $(CARGO) test --locked

soak: test-tools ## Run all tests in a release build, longer and with more requests (tests/it/support/scale.rs)
	ROUNDS=$(or $(ROUNDS),200) REQUESTS=$(or $(REQUESTS),100000) SOAK_SECONDS=$(or $(SOAK_SECONDS),600) \
		FLOOD=$(or $(FLOOD),300000) SCRAPE_SECONDS=$(or $(SCRAPE_SECONDS),15) RESTARTS=$(or $(RESTARTS),20) \
		CONSOLE_SECONDS=$(or $(CONSOLE_SECONDS),60) \
		sh scripts/run-tests.sh $(CARGO) test --locked --release

fuzz: ## Fuzz each parser of external input (RUNS=1000000; TARGET=NAME for one)
	CARGO="$(CARGO)" RUNS="$(RUNS)" TARGET="$(TARGET)" sh scripts/fuzz.sh

lint: ## Check formatting, clippy, rustdoc, module imports, words, links, dependencies, scripts, units, OpenAPI documents, manifests
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	$(CARGO) fmt --check --manifest-path clients/rust/Cargo.toml
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --quiet
	$(CARGO) test --locked --quiet --test architecture -- --nocapture
	$(CARGO) test --locked --quiet --test prose -- --nocapture
	CARGO="$(CARGO)" sh scripts/lint-dependencies.sh
	sh scripts/lint-files.sh
	sh scripts/lint-documents.sh

bench: ## Run the benchmarks against other programs (ROUNDS=3; ONLY=service, restart, log or overhead)
	sh benches/install-rivals.sh
	$(CARGO) bench --locked --bench compare

docs: ## Generate docs/cli.md, the settings in docs/configuration.md, and the output of console blocks
	UPDATE_DOCS=1 $(CARGO) test --locked --lib generated_docs
	UPDATE_DOCS=1 $(CARGO) test --locked --test it documents::

openapi: ## Generate the OpenAPI documents in openapi/
	$(CARGO) build --locked --bin fullon
	for api in public admin; do \
		$(CARGO) run --quiet --locked --bin fullon -- openapi $$api > openapi/$$api.json.new && \
		mv openapi/$$api.json.new openapi/$$api.json || exit 1; \
	done

third-party: ## Generate THIRD-PARTY.txt, the notices of what the program contains (needs npm)
	CARGO="$(CARGO)" python3 scripts/third-party.py

# Directory of installed systemd units. With a PREFIX that systemd does not search, it is /etc.
SYSTEMD = $(DESTDIR)$(if $(filter /usr /usr/local,$(PREFIX)),$(PREFIX)/lib,/etc)
SHARE = $(DESTDIR)$(PREFIX)/share
# The files that `make install` creates and `make uninstall` removes.
INSTALLED = \
	$(DESTDIR)$(PREFIX)/bin/fullon \
	$(SHARE)/man/man1/fullon.1 \
	$(SHARE)/doc/fullon/LICENSE \
	$(SHARE)/doc/fullon/THIRD-PARTY.txt \
	$(SHARE)/bash-completion/completions/fullon \
	$(SHARE)/zsh/site-functions/_fullon \
	$(SHARE)/fish/vendor_completions.d/fullon.fish \
	$(SYSTEMD)/systemd/system/fullon_master_api.service \
	$(SYSTEMD)/systemd/system/fullon_master_api.socket \
	$(SYSTEMD)/systemd/system/fullon_master_api-admin.socket \
	$(SYSTEMD)/sysusers.d/fullon_master_api.conf \
	$(SYSTEMD)/tmpfiles.d/fullon_master_api.conf
# True if root installs to the running system.
IS_LIVE = [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ] && [ -d /run/systemd/system ]

# The program is renamed into place, so that a daemon that restarts meanwhile finds a complete file.
install: $(if $(filter file,$(origin FULLON)),build) ## Install program, manual page, completions and systemd units (PREFIX, DESTDIR; FULLON=PROGRAM builds nothing)
	install -d $(sort $(dir $(INSTALLED)))
	install -m 0755 $(FULLON) $(DESTDIR)$(PREFIX)/bin/fullon.new
	mv -f $(DESTDIR)$(PREFIX)/bin/fullon.new $(DESTDIR)$(PREFIX)/bin/fullon
	$(FULLON) man > $(SHARE)/man/man1/fullon.1
	install -m 0644 LICENSE THIRD-PARTY.txt $(SHARE)/doc/fullon
	$(FULLON) completions bash > $(SHARE)/bash-completion/completions/fullon
	$(FULLON) completions zsh > $(SHARE)/zsh/site-functions/_fullon
	$(FULLON) completions fish > $(SHARE)/fish/vendor_completions.d/fullon.fish
	sed 's|/usr/local|$(PREFIX)|' fullon_master_api.service > $(SYSTEMD)/systemd/system/fullon_master_api.service
	install -m 0644 systemd/fullon_master_api.socket systemd/fullon_master_api-admin.socket $(SYSTEMD)/systemd/system
	install -m 0644 systemd/sysusers.d/fullon_master_api.conf $(SYSTEMD)/sysusers.d
	install -m 0644 systemd/tmpfiles.d/fullon_master_api.conf $(SYSTEMD)/tmpfiles.d
	chmod 0644 $(filter-out %/bin/fullon,$(INSTALLED))
	@if $(IS_LIVE); then echo; \
		echo 'Next: systemd-sysusers && systemctl daemon-reload && systemctl enable --now fullon_master_api.service'; \
		echo 'With socket activation: systemctl enable --now fullon_master_api.socket fullon_master_api-admin.socket fullon_master_api.service'; \
		echo 'After an update (zero-downtime restart): systemctl daemon-reload && systemctl reload fullon_master_api.service'; \
	fi

uninstall: ## Remove the installed files (PREFIX, DESTDIR); settings, logs and the user stay
	rm -f $(INSTALLED)
	@if $(IS_LIVE); then echo; \
		echo 'Next: systemctl disable --now fullon_master_api.socket fullon_master_api-admin.socket fullon_master_api.service; systemctl daemon-reload'; \
	fi
