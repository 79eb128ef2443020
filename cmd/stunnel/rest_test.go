package main

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"
)

func TestARestOfTheMachineIsToldOnceAndASetClockIsNone(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	// What the clocks differ by each time that the wall clock is set, the machine having rested or not.
	clocks := []time.Duration{3 * s, 3 * s, 3*s + 900*ms, 3*s + 900*ms, 10 * s, 10*s + ms, 3610 * s, 3610 * s}
	end := errors.New("the end")
	next := 0
	r := rests{
		wait: func() error {
			if next == len(clocks) {
				return end
			}
			return nil
		},
		asleep: func() time.Duration { next++; return clocks[next-1] },
	}
	var told []time.Duration
	if err := r.follow(func(d time.Duration) { told = append(told, d) }); !errors.Is(err, end) {
		t.Error(err)
	}
	if want := []time.Duration{7 * s, 3600 * s}; !slices.Equal(told, want) {
		t.Errorf("told were %v, want %v", told, want)
	}
}

func TestWhoWaitsForTheClockToBeSetCanBeEnded(t *testing.T) {
	c, err := newClockSets()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.wait() }()
	c.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("it still waits")
	}
}

func TestTheTimeAsleepIsReadFromTheClocks(t *testing.T) {
	if first, second := asleep(), asleep(); first < -time.Second || second-first > time.Second {
		t.Errorf("%v, and then %v", first, second)
	}
}
