package conf

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestAnAddressNeedsNoResolver(t *testing.T) {
	unasked := func(context.Context, string, string) ([]netip.Addr, error) {
		t.Error("the resolver was asked")
		return nil, errors.New("asked")
	}
	for endpoint, want := range map[string]string{
		"192.0.2.1:51820":          "192.0.2.1:51820",
		"[2001:db8::1]:1":          "[2001:db8::1]:1",
		"[fe80::1%eth0]:65535":     "[fe80::1%eth0]:65535",
		"[::ffff:192.0.2.1]:51820": "192.0.2.1:51820",
	} {
		got, err := ResolveEndpoint(t.Context(), unasked, endpoint)
		if err != nil || len(got) != 1 || got[0] != netip.MustParseAddrPort(want) {
			t.Errorf("%s: %v, %v", endpoint, got, err)
		}
	}
	if _, err := ResolveEndpoint(t.Context(), unasked, "nothing"); err == nil {
		t.Error("an endpoint without a port was taken")
	}
}

func TestANameHasAllAddressesThatTheResolverKnows(t *testing.T) {
	lookup := func(_ context.Context, _, host string) ([]netip.Addr, error) {
		if host != "vpn.example.net" {
			t.Errorf("it was asked for %s", host)
		}
		return []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:192.0.2.1")}, nil
	}
	got, err := ResolveEndpoint(t.Context(), lookup, "vpn.example.net:7")
	want := []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:7"), netip.MustParseAddrPort("192.0.2.1:7")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

func TestANameWithoutAnAddressIsAnErrorThatNamesIt(t *testing.T) {
	refused := errors.New("refused")
	for _, want := range []error{refused, nil} {
		lookup := func(context.Context, string, string) ([]netip.Addr, error) { return nil, want }
		_, err := ResolveEndpoint(t.Context(), lookup, "vpn.example.net:7")
		if err == nil || !strings.Contains(err.Error(), "vpn.example.net") || !errors.Is(err, want) && want != nil {
			t.Errorf("of %v: %v", want, err)
		}
	}
}
