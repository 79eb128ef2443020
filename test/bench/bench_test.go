package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

func TestMedianAndSpreadOfRounds(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{9, 1, 5}, spread{5, 1, 9}},
		{[]float64{4, 1, 2, 9}, spread{3, 1, 9}},
	} {
		if got := spreadOf(c.values); got != c.want {
			t.Errorf("spread of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

func TestThousandsHaveCommas(t *testing.T) {
	for v, want := range map[float64]string{0: "0.0", 999.94: "999.9", 1000: "1,000.0", 1234567.89: "1,234,567.9", 0.04: "0.0"} {
		if got := decimal(v, 1); got != want {
			t.Errorf("%v is written %s, want %s", v, got, want)
		}
	}
}

func TestPingSummaryIsReadInMicroseconds(t *testing.T) {
	const out = "--- 10.77.0.2 ping statistics ---\n400 packets transmitted, 400 received, 0% packet loss, time 2001ms\n" +
		"rtt min/avg/max/mdev = 0.151/0.204/1.310/0.052 ms, pipe 2\n"
	avg, most, ok := pingTimes(out)
	if !ok || math.Round(avg) != 204 || math.Round(most) != 1310 {
		t.Errorf("%v, %v, %v", avg, most, ok)
	}
	if _, _, ok := pingTimes("100% packet loss"); ok {
		t.Error("times without an answer")
	}
}

func TestCountsOfPerfStatAreSummed(t *testing.T) {
	counts := parseStat("# started on Sun\n\n2125,,raw_syscalls:sys_enter,6265554,100.00,,\n" +
		"<not counted>,,syscalls:sys_enter_futex,0,100.00,,\n1003,,syscalls:sys_enter_read,6265554,100.00,,\n")
	if counts["raw_syscalls:sys_enter"] != 2125 || counts["syscalls:sys_enter_read"] != 1003 {
		t.Error(counts)
	}
	if n, ok := counts["syscalls:sys_enter_futex"]; n != 0 || !ok {
		t.Error("what did not happen is not counted as 0")
	}
}

// Samples as perf script prints them, one per part.
const script = `stunnel   71
	          4b2e40 golang.org/x/crypto/chacha20poly1305.chacha20Poly1305Seal (/tmp/stunnel)
	          5d1c00 stunnel/crypto.(*Keypair).Seal (/tmp/stunnel)

stunnel   71
	          4b2e41 stunnel/device.sum (/tmp/stunnel)
	          4b2e42 stunnel/device.(*Queue).split (/tmp/stunnel)

stunnel   71
	          4b2e43 runtime.memmove (/tmp/stunnel)

stunnel   71
	          4b2e44 stunnel/transport.(*lane).outbound (/tmp/stunnel)

stunnel   71
	          4b2e45 runtime.findRunnable (/tmp/stunnel)

stunnel   71
	ffffffffffff81a0 rep_movs_alternative ([kernel.kallsyms])
	ffffffffffffa1a0 _copy_to_iter ([kernel.kallsyms])
	ffffffffffffa1a1 tun_do_read ([tun])
	ffffffffffffa1a2 ksys_read ([kernel.kallsyms])
	          4b2e46 internal/runtime/syscall.Syscall6 (/tmp/stunnel)

stunnel   71
	ffffffffffffa1a3 tcp_v4_rcv ([kernel.kallsyms])
	ffffffffffffa1a4 tun_get_user ([kernel.kallsyms])
	ffffffffffffa1a5 tun_chr_write_iter ([kernel.kallsyms])
	          4b2e46 internal/runtime/syscall.Syscall6 (/tmp/stunnel)

stunnel   71
	ffffffffffffa1a6 udp_gro_receive ([kernel.kallsyms])
	ffffffffffffa1a7 udp_sendmsg ([kernel.kallsyms])
	ffffffffffffa1a8 __sys_sendmsg ([kernel.kallsyms])

stunnel   71
	ffffffffffffa1a9 udp_recvmsg ([kernel.kallsyms])
	ffffffffffffa1aa do_recvmmsg ([kernel.kallsyms])

stunnel   71
	ffffffffffffa1ab finish_task_switch ([kernel.kallsyms])
	ffffffffffffa1ac do_futex ([kernel.kallsyms])

stunnel   71
	ffffffffffffa1ae update_process_times ([kernel.kallsyms])
	ffffffffffffa1af asm_sysvec_apic_timer_interrupt ([kernel.kallsyms])
	          4b2e44 stunnel/transport.(*lane).outbound (/tmp/stunnel)

stunnel   71
	ffffffffffffa1ad asm_exc_page_fault ([kernel.kallsyms])
	          4b2e44 stunnel/transport.(*lane).outbound (/tmp/stunnel)
`

func TestASampleCountsForOnePart(t *testing.T) {
	s := splitScript(strings.NewReader(script))
	for _, part := range parts {
		if s[part] != 1 {
			t.Errorf("%s: %v samples, want 1", part, s[part])
		}
	}
	if s[kernelCopies] != 1 || s[kernelSums] != 0 {
		t.Errorf("copies in the kernel %v, checksums %v", s[kernelCopies], s[kernelSums])
	}
	if s.total() != float64(len(parts)) {
		t.Errorf("%v samples in all, want %d", s.total(), len(parts))
	}
}

func TestGoBenchmarksAreReadRoundByRound(t *testing.T) {
	const first = "goos: linux\nBenchmarkAllowedIPs/IPv4/1M-2   415574   592.7 ns/op   188.9 B/prefix   0 B/op   0 allocs/op\nPASS\n"
	m := addMicro(nil, "stunnel", first)
	m = addMicro(m, "stunnel", strings.Replace(first, "592.7", "600.7", 1))
	m = addMicro(m, reference, first)
	if len(m) != 2 || m[0].Name != "AllowedIPs/IPv4/1M" || len(m[0].Values["ns/op"]) != 2 {
		t.Fatalf("%+v", m)
	}
	if s, _ := m[0].of("ns/op"); math.Abs(s.median-596.7) > 1e-6 {
		t.Error(s)
	}
	// And benchstat gets them as they were.
	const again = "BenchmarkAllowedIPs/IPv4/1M 1 592.7 ns/op 188.9 B/prefix 0 B/op 0 allocs/op\n"
	if got := benchmarkLines(m, "stunnel"); got != again+strings.Replace(again, "592.7", "600.7", 1) {
		t.Error(got)
	}
}

func someResults() *results {
	return &results{Rounds: 2, Seconds: 5, Finished: true, Absent: []string{"tincd is not installed"}, Tunnels: []*measured{
		{Name: "no tunnel", Version: "veth", Samples: []sample{{"tcp1.gbps": 10}, {"tcp1.gbps": 12}}},
		{Name: "stunnel", Version: "<1&2>", Samples: []sample{{"tcp1.gbps": 3, "ping.us": 200, "calls.ping.a.all": 6, "calls.ping.a.read": 4}},
			Profile: &profiled{Sender: split{"AEAD": 3, "copies": 1}, Receiver: split{"AEAD": 1}, SecondsPerGB: [2]float64{2, 1}}},
		{Name: reference, Samples: []sample{{"tcp1.gbps": 2, "ping.us": 400}}, Failures: []string{"udp64: no\nserver"}},
	}, Micro: addMicro(addMicro(nil, "stunnel", "BenchmarkAllowedIPs/IPv4/10-2 1 10 ns/op 99 B/prefix\nBenchmarkSeal/train=1-2 1 780 ns/op\n"),
		reference, "BenchmarkAllowedIPs/IPv4/10-2 1 40 ns/op 200 B/prefix\n"), Benchstat: "Seal/train=1 780n\n"}
}

func TestTheTablesSayWhatWasMeasuredAndWhatWasNot(t *testing.T) {
	text := someResults().markdown()
	for _, want := range []string{
		"| TCP, 1 stream, Gb/s | **11.00** (10.00-12.00) | **3.00** (3.00-3.00) | **2.00** (2.00-2.00) |",
		"| TCP, 1 stream | 5.50 | 1.50 | 1.00 |",
		"| ping, idle | - | 0.50 | 1.00 |",
		"| AEAD | 75.0 % = 1.50 | 100.0 % = 1.00 |",
		"| idle ping, per ping | sends | stunnel | 6.0 | 0.0 | read 4.0 |",
		"Not measured: tincd is not installed.",
		"Failed: wireguard-go: udp64: no server.",
		"| IPv4/10 | **10.0** (10.0-10.0) | **40.0** (40.0-40.0) | 0.25 | 99.0 | 200 | - |",
		"```\nSeal/train=1 780n\n```\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("not in the tables: %s", want)
		}
	}
	if strings.Contains(text, "UDP of 1372") {
		t.Error("a row of figures that nobody has")
	}
	r := someResults()
	r.Finished = false
	if !strings.Contains(r.markdown(), "Not a whole run") {
		t.Error("half a run passes for a whole one")
	}
}

func TestTheChartIsXMLWithABarPerTunnelAndFigure(t *testing.T) {
	text := someResults().svg()
	d := xml.NewDecoder(strings.NewReader(text))
	bars := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars != 1+3+2 { // the ground, three speeds, two pings
		t.Errorf("%d rectangles", bars)
	}
}

func TestUnknownNamesAreRefusedBeforeAnythingRuns(t *testing.T) {
	for _, args := range [][]string{{"--tests", "tcp9"}, {"--rounds", "0"}, {"--tests", "ping", "extra"}} {
		if err := run(t.Context(), args); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}
