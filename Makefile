# Fullon Master API. `make help` lists the targets.

CARGO ?= cargo
FULLON = $(or $(CARGO_TARGET_DIR),target)/release/fullon
PREFIX ?= /usr/local

.DEFAULT_GOAL := help
.PHONY: help build daemon-start daemon-stop daemon-restart daemon-status daemon-logs run test test-tools lint bench openapi install

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

test: test-tools ## Run all tests
	$(CARGO) test --locked

lint: ## Formatting, clippy, shell syntax, unit file
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --quiet
	sh scripts/lint-files.sh

bench: ## Measure beside the rivals, and print the ratios (ROUNDS=3; ONLY=service, restart or log for one part)
	sh benches/install-rivals.sh
	$(CARGO) bench --locked --bench compare

openapi: ## Write the OpenAPI documents from the code
	$(CARGO) build --locked --bin fullon
	for api in public admin; do \
		$(CARGO) run --quiet --locked --bin fullon -- openapi $$api > openapi/$$api.json.new && \
		mv openapi/$$api.json.new openapi/$$api.json || exit 1; \
	done

install: build ## Install the binary, the manual page and the systemd unit (PREFIX, DESTDIR)
	install -D -m 0755 $(FULLON) $(DESTDIR)$(PREFIX)/bin/fullon
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)/etc/systemd/system
	$(FULLON) man > $(DESTDIR)$(PREFIX)/share/man/man1/fullon.1
	sed 's|/usr/local/bin/fullon|$(PREFIX)/bin/fullon|' fullon_master_api.service > $(DESTDIR)/etc/systemd/system/fullon_master_api.service
