package device

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// busyLoop, in the environment, makes the test below its own other process.
const busyLoop = "STUNNEL_TEST_BUSY_LOOP"

// With one processor for Go a loop that always finds something to read must be
// interrupted for anybody else to run. That is the monitor thread's work, and
// what woke the program here does not wake that.
func TestALoopThatNeverWaitsLeavesOthersTheirTurn(t *testing.T) {
	if os.Getenv(busyLoop) != "" {
		readForEver(t)
		return
	}
	// As a semaphore each read of it takes one of what was written once.
	packets, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK|unix.EFD_SEMAPHORE)
	must(t, err)
	source := os.NewFile(uintptr(packets), "eventfd")
	defer func() { _ = source.Close() }()
	theirs, ours, err := os.Pipe()
	must(t, err)
	defer func() { _ = ours.Close() }()

	other := exec.Command(os.Args[0], "-test.run=^TestALoopThatNeverWaitsLeavesOthersTheirTurn$", "-test.timeout=0")
	other.Env = append(os.Environ(), busyLoop+"=1")
	other.ExtraFiles = []*os.File{source, theirs}
	out, err := other.StdoutPipe()
	must(t, err)
	must(t, other.Start())
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	must(t, theirs.Close())
	lines := bufio.NewScanner(out)
	says := func(want string) {
		t.Helper()
		within(t, "the other process's "+want, func() {
			if !lines.Scan() || lines.Text() != want {
				t.Errorf("the other process says %q, want %q", lines.Text(), want)
			}
		})
	}
	says("waits")
	asleep(t, other.Process.Pid)
	_, err = source.Write(binary.NativeEndian.AppendUint64(nil, 1<<62))
	must(t, err)
	says("reads")
	_, err = ours.Write([]byte{0})
	must(t, err)
	says("had its turn")
}

// readForEver is the other process.
func readForEver(t *testing.T) {
	runtime.GOMAXPROCS(1)
	must(t, unix.SetNonblock(3, true))
	must(t, unix.SetNonblock(4, true))
	q := newQueue(os.NewFile(3, "eventfd"), false, false, 0)
	go func() {
		for reads := 0; ; reads++ {
			if _, _, _, err := q.Read(); err != nil {
				return
			}
			if reads == 0 {
				_ = write(1, []byte("reads\n")) // not fmt, whose call would wake the monitor thread
			}
		}
	}()
	fmt.Println("waits")
	_, err := os.NewFile(4, "pipe").Read(make([]byte, 1))
	must(t, err)
	fmt.Println("had its turn")
	os.Exit(0)
}

// asleep returns when no thread of a process has run for a moment.
func asleep(t *testing.T, pid int) {
	t.Helper()
	var before []byte
	for range 1000 {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		must(t, err)
		var now []byte
		for _, name := range tasks {
			b, err := os.ReadFile(name)
			must(t, err)
			now = append(now, b...)
		}
		if bytes.Equal(now, before) {
			return
		}
		before = now
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("it never sleeps")
}
