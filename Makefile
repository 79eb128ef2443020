# make demo    build, and show a real tunnel between two hosts made of namespaces
# make test    all tests, end to end ones included; installs or names what is missing
# make bench   stunnel beside wireguard-go and others, about half an hour; tables and chart into docs/
# make         build ./stunnel, one static binary

commit  := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
ldflags := -s -w -X main.commit=$(commit)

.PHONY: all stunnel demo test bench install clean
all: stunnel

stunnel:
	CGO_ENABLED=0 go build -trimpath -ldflags '$(ldflags)' -o stunnel ./cmd/stunnel

demo: stunnel
	./stunnel demo

test:
	test/run

# BENCH='--rounds 1 --secs 1 --tests tcp1,ping -o /tmp/bench' for a glance; BENCH=-h for all flags
bench:
	go run ./test/bench $(BENCH)

install: stunnel
	install -D -m 755 stunnel $(DESTDIR)/usr/local/bin/stunnel

clean:
	rm -f stunnel
