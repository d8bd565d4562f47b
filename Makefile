# Fullon Master API. `make help` lists the targets.

CARGO ?= cargo
FULLON = target/release/fullon
PREFIX ?= /usr/local

.DEFAULT_GOAL := help
.PHONY: help build daemon-start daemon-stop daemon-restart daemon-status daemon-logs run test test-tools lint bench openapi install

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1 \2/p' $(MAKEFILE_LIST) | while read -r target text; do printf '%-16s %s\n' "$$target" "$$text"; done

build: ## Build the release binary
	$(CARGO) build --release --locked --bin fullon

daemon-start: build ## Build, and start the daemon in the background
	$(FULLON) start

daemon-stop: ## Stop the daemon
	$(FULLON) stop

daemon-restart: build ## Build, and replace the running daemon
	$(FULLON) restart

daemon-status: ## Tell how the daemon is doing
	$(FULLON) status

daemon-logs: ## Follow the log
	$(FULLON) logs

run: ## Run in the foreground; rebuild and restart when a source changes
	@CARGO="$(CARGO)" sh scripts/run-and-rebuild.sh

test-tools: ## Install what the tests need beside Rust and a C compiler
	sh scripts/install-test-tools.sh

test: test-tools ## Run all tests
	$(CARGO) test --locked

lint: ## Formatting, clippy, shell syntax, unit file
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --quiet
	sh scripts/lint-files.sh

bench: ## Measure beside the rivals, and print the ratios
	sh benches/install-rivals.sh
	$(CARGO) bench --locked --bench compare

openapi: ## Write the OpenAPI documents from the code
	$(CARGO) run --quiet --locked --bin fullon -- openapi public > openapi/public.json
	$(CARGO) run --quiet --locked --bin fullon -- openapi admin > openapi/admin.json

install: build ## Install the binary, the manual page and the systemd unit (PREFIX, DESTDIR)
	install -D -m 0755 $(FULLON) $(DESTDIR)$(PREFIX)/bin/fullon
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)/etc/systemd/system
	$(FULLON) man > $(DESTDIR)$(PREFIX)/share/man/man1/fullon.1
	sed 's|/usr/local/bin/fullon|$(PREFIX)/bin/fullon|' fullon_master_api.service > $(DESTDIR)/etc/systemd/system/fullon_master_api.service
