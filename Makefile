# make             build the daemon
# make check       what needs neither root nor an MTA: fmt, clippy, cargo-deny, unit, property and scenario tests
# make test        everything, with a real Postfix, Sendmail and unbound (installed as root when missing)
# make test CORPUS=DIR   and with the public suites in DIR
# make advisories  known faults of what the program depends on; asks the net
# make diff        ours against other implementations, on cases at random: SEED=, ROUNDS= (each part of them)
# make fuzz        each reader of strangers' octets, SECONDS= each
# make mutants     faults put into the code, one at a time, for the unit tests to catch: FILES=src/auth/spf/*.rs, SHARD=1/40
# make chaos       the daemon under bad treatment, as root: SEED=; CASE= is a part of the name of a case, without spaces
# make soak        mixed traffic for MINUTES=: nothing grows; SEED=
# make demo        the daemon at work: a few SMTP sessions, printed
# make shipped     the program as it is shipped, in target/performance: what the next three measure
# make bench       measurements: BENCHES=milter is one of them, SECTIONS="hot cold memory tree" are parts of it
# make bench-growth  how the cost grows with connections, cached names, signatures, bodies and lists: SECTIONS="connections cache signatures bodies lists"
# make bench-peers   the same load for the daemon and for what people use instead, as root: SECTIONS="hot busy cold small large open"
# make deb rpm sbom  packages, and the list of what is in the program, in target/packages; needs no root after "make package-tools"
# make test-packages  builds the packages, and tries them in a clean Debian; as root
# make install     DESTDIR, PREFIX, SYSCONFDIR, UNITDIR, SYSUSERSDIR, TMPFILESDIR and DOCDIR say where to
# make uninstall   the same; the configuration stays

PREFIX = /usr/local
SYSCONFDIR = /etc
UNITDIR = $(PREFIX)/lib/systemd/system
SYSUSERSDIR = $(PREFIX)/lib/sysusers.d
TMPFILESDIR = $(PREFIX)/lib/tmpfiles.d
DOCDIR = $(PREFIX)/share/doc/spf-milter
# What becomes of the program on its way: line numbers, most of its size, are for those who build it. Names of functions stay.
STRIP = strip --strip-debug
CARGO = cargo
TARGET = $(or $(CARGO_TARGET_DIR),target)
SENDMAIL = $(abspath $(TARGET))/sendmail
SHIPPED = $(abspath $(TARGET))/performance/spf-milter
# The versions that are installed where there is none.
CARGO_DENY = 0.20.2
CARGO_MUTANTS = 27.1.0

SECONDS = 60
MINUTES = 60
BENCHES = milter content dkim
# What `make mutants` puts faults into: where a wrong answer is forged mail, or lost mail.
FILES = src/auth/** src/mail/** src/milter/** src/policy/**
# What `make test` does of it.
TEST_RUNS = 5000

BINDIR = $(DESTDIR)$(PREFIX)/sbin
MANDIR = $(DESTDIR)$(PREFIX)/share/man
EXAMPLEDIR = $(DESTDIR)$(DOCDIR)/examples
# Changes of the unit, and set-ups.
DROPINS = names-and-groups.conf notify-reload.conf
EXAMPLES = $(shell find examples -type f ! -name '*.rs' 2>/dev/null)
MONITORING = prometheus-alerts.yml grafana-dashboard.json
MANPAGES = $(wildcard man/*.[1-9])
DOCUMENTS = README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE $(wildcard docs/*.md docs/*.svg)

.PHONY: all check test diff fuzz mutants chaos soak lint deny advisories peers man-lint demo shipped bench bench-growth bench-peers install uninstall clean package-tools deb rpm sbom test-packages

all:
	$(CARGO) build --release --locked

# The last step is without the feature `testing`: the compiler says what only tests use.
lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --lib --bins -- -D warnings

# What the program depends on: licences, sources, the same crate twice (deny.toml).
deny:
	@$(CARGO) deny --version >/dev/null 2>&1 || \
	    { echo "cargo-deny is missing: cargo install --locked --version $(CARGO_DENY) cargo-deny" >&2; exit 1; }
	$(CARGO) deny --locked check bans licenses sources

advisories:
	$(CARGO) deny --locked check advisories

check: lint deny
	$(CARGO) test --locked --no-fail-fast

peers:
	CARGO_DENY="$(CARGO_DENY)" testkit/peers.sh "$(SENDMAIL)"

man-lint: $(MANPAGES)
	@for page in $(MANPAGES); do \
	    mandoc -Tlint -Wwarning "$$page" || exit 1; \
	    problems=$$(groff -ww -mandoc -Tutf8 "$$page" 2>&1 >/dev/null) || exit 1; \
	    if [ -n "$$problems" ]; then echo "$$problems" >&2; exit 1; fi; \
	done

# RUSTFLAGS or features must not differ between the steps, or everything is built twice.
test: lint peers deny man-lint
	$(if $(CORPUS),CORPUS="$(abspath $(CORPUS))") $(CARGO) test --locked --no-fail-fast -- --include-ignored
	RUNS=$(TEST_RUNS) fuzz/run 0

# A seed of its own for each run, where none is given; it is printed. Bodies of each length up to 70,000 are made in the last step.
diff: peers
	SEED="$(or $(SEED),$(shell date +%s))" ROUNDS="$(or $(ROUNDS),50000)" \
	    $(CARGO) test --locked --profile diff --test peers differential -- --include-ignored --nocapture --test-threads=2
	$(CARGO) test --locked --release --lib exhaustive

fuzz:
	fuzz/run $(SECONDS)

# Works on a copy of the tree; its report is in TARGET/mutants.out.
mutants:
	@$(CARGO) mutants --version >/dev/null 2>&1 || \
	    { echo "cargo-mutants is missing: cargo install --locked --version $(CARGO_MUTANTS) cargo-mutants" >&2; exit 1; }
	mkdir -p "$(TARGET)"
	$(CARGO) mutants --output "$(TARGET)" $(patsubst %,--file '%',$(FILES)) $(if $(SHARD),--shard $(SHARD))

# The program as it is shipped, and the tests as they are built for `make test`.
chaos: all
	SPF_MILTER_BIN="$(abspath $(TARGET))/release/spf-milter" $(CARGO) test --locked --test chaos -- \
	    --chaos $(if $(SEED),--seed=$(SEED)) $(CASE)

soak: all
	SPF_MILTER_BIN="$(abspath $(TARGET))/release/spf-milter" $(CARGO) test --locked --test chaos -- \
	    --soak --minutes=$(MINUTES) $(if $(SEED),--seed=$(SEED))

demo:
	$(CARGO) build --locked
	$(CARGO) run --locked --quiet --example demo

# The program as it is shipped, kept apart: in its place Cargo puts one with what tests want of the runtime.
shipped: all
	install -D "$(TARGET)/release/spf-milter" "$(SHIPPED)"

bench: shipped
	SPF_MILTER_BIN="$(SHIPPED)" $(CARGO) bench --locked $(patsubst %,--bench %,$(BENCHES)) -- $(SECTIONS)

bench-growth: shipped
	SPF_MILTER_BIN="$(SHIPPED)" $(CARGO) bench --locked --bench growth -- $(SECTIONS)

# The comparison needs programs of its own.
bench-peers: peers shipped
	testkit/bench-peers.sh "$(abspath $(TARGET))"
	SPF_MILTER_BIN="$(SHIPPED)" $(CARGO) bench --locked --bench peers -- $(SECTIONS)

package-tools:
	packaging/tools.sh

deb rpm sbom:
	packaging/build $@

# One after the other: each says what it does.
test-packages:
	packaging/tools.sh test
	packaging/build deb rpm sbom
	$(CARGO) test --locked --test packages -- --include-ignored --nocapture --test-threads=1

# Does not build: that is for `make`, as somebody else than root.
install:
	@test -x "$(TARGET)/release/spf-milter" || { echo "$(TARGET)/release/spf-milter is missing: run make first" >&2; exit 1; }
	install -D -m 0755 "$(TARGET)/release/spf-milter" "$(BINDIR)/spf-milter"
	$(STRIP) "$(BINDIR)/spf-milter"
	for page in $(MANPAGES); do \
	    install -D -m 0644 "$$page" "$(MANDIR)/man$${page##*.}/$${page##*/}" || exit 1; \
	done
	for document in $(DOCUMENTS); do \
	    install -D -m 0644 "$$document" "$(DESTDIR)$(DOCDIR)/$$document" || exit 1; \
	done
	test -e "$(DESTDIR)$(SYSCONFDIR)/spf-milter.conf" || \
	    install -D -m 0644 etc/spf-milter.conf "$(DESTDIR)$(SYSCONFDIR)/spf-milter.conf"
	install -D -m 0644 etc/spf-milter.sysusers "$(DESTDIR)$(SYSUSERSDIR)/spf-milter.conf"
	install -D -m 0644 etc/spf-milter.tmpfiles "$(DESTDIR)$(TMPFILESDIR)/spf-milter.conf"
	install -d "$(DESTDIR)$(UNITDIR)"
	install -m 0644 etc/spf-milter.socket "$(DESTDIR)$(UNITDIR)/spf-milter.socket"
	sed 's,/usr/sbin/spf-milter,$(PREFIX)/sbin/spf-milter,' etc/spf-milter.service >"$(DESTDIR)$(UNITDIR)/spf-milter.service"
	chmod 0644 "$(DESTDIR)$(UNITDIR)/spf-milter.service"
	install -d "$(EXAMPLEDIR)"
	for dropin in $(DROPINS); do \
	    sed 's,/usr/sbin/spf-milter,$(PREFIX)/sbin/spf-milter,' "etc/$$dropin" >"$(EXAMPLEDIR)/$$dropin" && \
	    chmod 0644 "$(EXAMPLEDIR)/$$dropin" || exit 1; \
	done
	for example in $(EXAMPLES); do \
	    install -D -m 0644 "$$example" "$(DESTDIR)$(DOCDIR)/$$example" || exit 1; \
	done
	for file in $(MONITORING); do \
	    install -m 0644 "etc/$$file" "$(EXAMPLEDIR)/$$file" || exit 1; \
	done

# The configuration stays.
uninstall:
	rm -f "$(BINDIR)/spf-milter" "$(DESTDIR)$(UNITDIR)/spf-milter.service" "$(DESTDIR)$(UNITDIR)/spf-milter.socket"
	rm -f "$(DESTDIR)$(SYSUSERSDIR)/spf-milter.conf" "$(DESTDIR)$(TMPFILESDIR)/spf-milter.conf"
	for dropin in $(DROPINS) $(MONITORING); do rm -f "$(EXAMPLEDIR)/$$dropin"; done
	for example in $(EXAMPLES); do rm -f "$(DESTDIR)$(DOCDIR)/$$example"; done
	-find "$(EXAMPLEDIR)" -mindepth 1 -type d -empty -delete
	for page in $(MANPAGES); do rm -f "$(MANDIR)/man$${page##*.}/$${page##*/}"; done
	for document in $(DOCUMENTS); do rm -f "$(DESTDIR)$(DOCDIR)/$$document"; done
	-rmdir "$(EXAMPLEDIR)" "$(DESTDIR)$(DOCDIR)/docs" "$(DESTDIR)$(DOCDIR)"

clean:
	$(CARGO) clean
