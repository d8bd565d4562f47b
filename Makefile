# Fullon Master API. `make help` lists the targets.

CARGO ?= cargo
FULLON = $(or $(CARGO_TARGET_DIR),target)/release/fullon
PREFIX ?= /usr/local

.DEFAULT_GOAL := help
.PHONY: help build daemon-start daemon-stop daemon-restart daemon-status daemon-logs run test test-quick test-tools soak fuzz lint bench openapi install uninstall

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1 \2/p' $(MAKEFILE_LIST) | while read -r target text; do printf '%-16s %s\n' "$$target" "$$text"; done

build: ## Build the release binary
	@$(CARGO) build --release --locked --bin fullon

daemon-start: build ## Build, and start the daemon in the background
	$(FULLON) start

daemon-stop: build ## Stop the daemon
	$(FULLON) stop

daemon-restart: build ## Build, and replace the running daemon
	$(FULLON) restart

daemon-status: build ## Tell how the daemon is doing
	$(FULLON) status

daemon-logs: build ## Follow the log
	$(FULLON) logs

run: ## Run in the foreground; rebuild and restart when a source changes
	@CARGO="$(CARGO)" exec sh scripts/run-and-rebuild.sh

test-tools: ## Install what the tests need beside Rust and a C compiler
	sh scripts/install-test-tools.sh

# Most tests wait most of the time: for a deadline, a probe, a process. Those that need much of the
# machine take turns (tests/it/support/groups.rs).
export RUST_TEST_THREADS ?= $(shell echo $$((3 * $$(nproc))))

test-quick: ## Run the unit tests, and one test that starts, asks, restarts and stops a daemon
	$(CARGO) test --locked --lib
	$(CARGO) test --locked --test it smoke::

test: test-tools ## Run all tests
	$(CARGO) test --locked

soak: test-tools ## Run all tests, optimised, with more rounds, requests and minutes (tests/it/support/scale.rs)
	ROUNDS=$(or $(ROUNDS),200) REQUESTS=$(or $(REQUESTS),100000) SOAK_SECONDS=$(or $(SOAK_SECONDS),600) \
		CONSOLE_SECONDS=$(or $(CONSOLE_SECONDS),60) $(CARGO) test --locked --release

fuzz: ## Fuzz each parser of what comes from outside (RUNS=1000000; TARGET=NAME for one)
	CARGO="$(CARGO)" RUNS="$(RUNS)" TARGET="$(TARGET)" sh scripts/fuzz.sh

lint: ## Formatting, clippy, documentation, imports between modules, dependencies, shell syntax, systemd files, OpenAPI documents, manifests
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	$(CARGO) fmt --check --manifest-path clients/rust/Cargo.toml
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --quiet
	$(CARGO) test --locked --quiet --test architecture -- --nocapture
	CARGO="$(CARGO)" sh scripts/lint-dependencies.sh
	sh scripts/lint-files.sh
	sh scripts/lint-documents.sh

bench: ## Measure beside the rivals, and print the ratios (ROUNDS=3; ONLY=service, restart, log or overhead for one part)
	sh benches/install-rivals.sh
	$(CARGO) bench --locked --bench compare

openapi: ## Write the OpenAPI documents from the code
	$(CARGO) build --locked --bin fullon
	for api in public admin; do \
		$(CARGO) run --quiet --locked --bin fullon -- openapi $$api > openapi/$$api.json.new && \
		mv openapi/$$api.json.new openapi/$$api.json || exit 1; \
	done

# Where systemd looks for installed units; /etc stays the administrator's. Under a prefix that systemd
# does not search, only /etc is left.
SYSTEMD = $(DESTDIR)$(if $(filter /usr /usr/local,$(PREFIX)),$(PREFIX)/lib,/etc)
SHARE = $(DESTDIR)$(PREFIX)/share
# The files that `make install` creates and `make uninstall` removes.
INSTALLED = \
	$(DESTDIR)$(PREFIX)/bin/fullon \
	$(SHARE)/man/man1/fullon.1 \
	$(SHARE)/bash-completion/completions/fullon \
	$(SHARE)/zsh/site-functions/_fullon \
	$(SHARE)/fish/vendor_completions.d/fullon.fish \
	$(SYSTEMD)/systemd/system/fullon_master_api.service \
	$(SYSTEMD)/systemd/system/fullon_master_api.socket \
	$(SYSTEMD)/sysusers.d/fullon_master_api.conf \
	$(SYSTEMD)/tmpfiles.d/fullon_master_api.conf
# Set when we install to the running system, as root.
IS_LIVE = [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ] && [ -d /run/systemd/system ]

# The program is renamed into place, so a daemon that restarts meanwhile finds a whole one.
install: $(if $(filter file,$(origin FULLON)),build) ## Install program, manual page, completions and systemd units (PREFIX, DESTDIR; FULLON=PROGRAM builds nothing)
	install -d $(sort $(dir $(INSTALLED)))
	install -m 0755 $(FULLON) $(DESTDIR)$(PREFIX)/bin/fullon.new
	mv -f $(DESTDIR)$(PREFIX)/bin/fullon.new $(DESTDIR)$(PREFIX)/bin/fullon
	$(FULLON) man > $(SHARE)/man/man1/fullon.1
	$(FULLON) completions bash > $(SHARE)/bash-completion/completions/fullon
	$(FULLON) completions zsh > $(SHARE)/zsh/site-functions/_fullon
	$(FULLON) completions fish > $(SHARE)/fish/vendor_completions.d/fullon.fish
	sed 's|/usr/local|$(PREFIX)|' fullon_master_api.service > $(SYSTEMD)/systemd/system/fullon_master_api.service
	install -m 0644 systemd/fullon_master_api.socket $(SYSTEMD)/systemd/system
	install -m 0644 systemd/sysusers.d/fullon_master_api.conf $(SYSTEMD)/sysusers.d
	install -m 0644 systemd/tmpfiles.d/fullon_master_api.conf $(SYSTEMD)/tmpfiles.d
	chmod 0644 $(filter-out %/bin/fullon,$(INSTALLED))
	@if $(IS_LIVE); then echo; \
		echo 'Next: systemd-sysusers && systemctl daemon-reload && systemctl enable --now fullon_master_api.service'; \
		echo 'or, for systemd to hold the public port: ... enable --now fullon_master_api.socket fullon_master_api.service'; \
		echo 'After an update: systemctl daemon-reload && systemctl reload fullon_master_api.service'; \
	fi

uninstall: ## Remove what install put in place (PREFIX, DESTDIR); settings, logs and the user stay
	rm -f $(INSTALLED)
	@if $(IS_LIVE); then echo; \
		echo 'Next: systemctl disable --now fullon_master_api.socket fullon_master_api.service; systemctl daemon-reload'; \
	fi
