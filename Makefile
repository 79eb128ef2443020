# make demo    build, and show a real tunnel between two hosts made of namespaces
# make test    all tests, end to end ones included; installs or names what is missing
# make bench   stunnel beside wireguard-go and others, about half an hour; tables and chart into docs/
# make         build ./stunnel, one static binary
# make install copy it to /usr/local/bin (below DESTDIR)

commit  := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
ldflags := -s -w -X main.commit=$(commit)

.PHONY: all stunnel demo test bench install clean
all: stunnel

stunnel:
	@echo 'building ./stunnel; the first time this takes a minute or two'
	CGO_ENABLED=0 go build -trimpath -ldflags '$(ldflags)' -o stunnel ./cmd/stunnel

demo: stunnel
	./stunnel demo

test:
	test/run

# BENCH='--rounds 1 --secs 1 --tests tcp1,ping -o /tmp/bench' for a glance; BENCH=-h for all flags
bench:
	go run ./test/bench $(BENCH)

# Only copies: root has often no Go in its PATH, and should leave nothing of its own in here.
install:
	@test -x stunnel || { echo 'make install: there is no ./stunnel yet: run make first, without sudo' >&2; exit 1; }
	install -D -m 755 stunnel $(DESTDIR)/usr/local/bin/stunnel

clean:
	rm -f stunnel
