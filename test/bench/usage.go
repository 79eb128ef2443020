package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Clock ticks per second, as /proc counts them for user space.
const ticks = 100

// treeOf is these processes and all that they have started: a tunnel that
// confines itself has more than one.
func treeOf(pids ...int) []int {
	children := make(map[int][]int)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		if f := statFields(pid); len(f) > 1 {
			parent, _ := strconv.Atoi(f[1])
			children[parent] = append(children[parent], pid)
		}
	}
	for i := 0; i < len(pids); i++ {
		pids = append(pids, children[pids[i]]...)
	}
	return pids
}

// statFields is /proc/PID/stat from the state on; nil if there is no such
// process.
func statFields(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
}

// cpuOf is the CPU time in seconds that the processes, and those of their
// children that have ended, have used so far.
func cpuOf(pids []int) float64 {
	var sum float64
	for _, pid := range pids {
		f := statFields(pid)
		if len(f) < 15 {
			continue
		}
		for _, s := range f[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.ParseFloat(s, 64)
			sum += n / ticks
		}
	}
	return sum
}

// machineCPU is the CPU time in seconds that the whole machine was busy, and
// that its hypervisor took away, since boot.
func machineCPU() (busy, stolen float64) {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	for i := 1; i < len(f) && i <= 8; i++ {
		n, _ := strconv.ParseFloat(f[i], 64)
		switch i {
		case 4, 5: // idle, waiting for a disk
		case 8:
			stolen = n / ticks
		default: // user, nice, system, irq, softirq
			busy += n / ticks
		}
	}
	return busy, stolen
}

// peakOf is the peak resident memory of the processes in MB (10^6 bytes),
// since forgetPeak.
func peakOf(pids []int) float64 {
	var sum float64
	for _, pid := range pids {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if _, after, ok := strings.Cut(string(b), "VmHWM:"); ok {
			n, _ := strconv.ParseFloat(strings.Fields(after)[0], 64)
			sum += n * 1024 / 1e6
		}
	}
	return sum
}

// forgetPeak makes what the processes have now their peak.
func forgetPeak(pids []int) {
	for _, pid := range pids {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
	}
}
