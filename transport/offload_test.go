package transport

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

// telling is a queue or a socket with something to tell.
type tellingQueue struct {
	stack
	offloads map[string]string
	dropped  map[string]uint64
}

func (q *tellingQueue) Offloads() map[string]string { return q.offloads }
func (q *tellingQueue) Drops() map[string]uint64    { return q.dropped }

type tellingSocket struct {
	wire
	offloads map[string]string
}

func (s *tellingSocket) Offloads() map[string]string { return s.offloads }

func TestWhatOneLaneDoesNotOffloadIsOff(t *testing.T) {
	sockets := []*tellingSocket{{offloads: map[string]string{"gso": ""}}, {offloads: map[string]string{"gso": ""}}}
	var log strings.Builder
	tunnel := New(Options{
		Queues: []Queue{
			&tellingQueue{offloads: map[string]string{"csum": "", "uso4": "refused"}, dropped: map[string]uint64{"device_full": 3}},
			&tellingQueue{offloads: map[string]string{"csum": "", "uso4": ""}, dropped: map[string]uint64{"device_full": 4, "device_down": 1}},
		},
		Listen: func(uint16, int, uint32) ([]Socket, error) { return []Socket{sockets[0], sockets[1]}, nil },
		Now:    func() time.Duration { return 0 },
		Log:    slog.New(slog.NewTextHandler(&log, nil)),
	})
	down := []Offload{{"csum", ""}, {"uso4", "refused"}}
	if got := tunnel.Status().Offloads; !slices.Equal(got, down) {
		t.Errorf("while down: %v, want %v", got, down)
	}
	for range 2 { // said once
		if err := tunnel.SetUp(true); err != nil {
			t.Fatal(err)
		}
		if got, want := tunnel.Status().Offloads, []Offload{{"csum", ""}, {"gso", ""}, {"uso4", "refused"}}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		if err := tunnel.SetUp(false); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), `msg=offloads in_use="csum gso" not="uso4: refused"`); n != 1 {
		t.Errorf("said %d times:\n%s", n, &log)
	}
	if err := tunnel.SetUp(true); err != nil {
		t.Fatal(err)
	}
	sockets[1].offloads = map[string]string{"gso": "EIO"}
	s := tunnel.Status()
	if want := []Offload{{"csum", ""}, {"gso", "EIO"}, {"uso4", "refused"}}; !slices.Equal(s.Offloads, want) {
		t.Errorf("after a loss: %v, want %v", s.Offloads, want)
	}
	if s.Drops["device_full"] != 7 || s.Drops["device_down"] != 1 {
		t.Errorf("drops %v", s.Drops)
	}
}
