package control

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// deadSocket leaves a socket file on which nobody listens, as a killed program does.
func deadSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func TestModesDoNotDependOnTheUmask(t *testing.T) {
	for _, umask := range []int{0, 0o077, 0o777} {
		dir := filepath.Join(socketDir(t), "wireguard")
		old := syscall.Umask(umask)
		l, err := listen(dir, "peer")
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		if d, s := mode(t, dir), mode(t, socketPath(dir, "peer")); d != 0o755 || s != 0o600 {
			t.Errorf("umask %03o: directory %v, socket %v", umask, d, s)
		}
		l.Close()
	}
}

// Any user may open the directory, and so lock it.
func TestALockThatIsNeverReleasedStopsNobody(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	l, err := listen(dir, "wg0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestADirectoryThatIsThereIsLeftAlone(t *testing.T) {
	dir := socketDir(t)
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	l, err := listen(dir, "peer")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 || mode(t, dir) != 0o711 {
		t.Errorf("%v %v %v", entries, err, mode(t, dir))
	}
}

func TestADeadSocketIsReplacedAndALiveOneIsNot(t *testing.T) {
	dir := socketDir(t)
	deadSocket(t, socketPath(dir, "peer"))
	l, err := listen(dir, "peer")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := listen(dir, "peer"); !errors.Is(err, ErrRunning) {
		t.Errorf("a second one: %v", err)
	}
	c, err := net.Dial("unix", socketPath(dir, "peer"))
	if err != nil {
		t.Fatalf("the first one is gone: %v", err)
	}
	c.Close()
}

func TestWhatIsNotASocketIsNotReplaced(t *testing.T) {
	dir := socketDir(t)
	path := socketPath(dir, "peer")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(dir, "peer"); err == nil || errors.Is(err, ErrRunning) {
		t.Errorf("%v", err)
	}
	if text, err := os.ReadFile(path); string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestOfManyThatStartAtOnceOneWins(t *testing.T) {
	dir := socketDir(t)
	deadSocket(t, socketPath(dir, "peer"))
	var all sync.WaitGroup
	var mu sync.Mutex
	var won []*net.UnixListener
	for range 16 {
		all.Go(func() {
			l, err := listen(dir, "peer")
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, l)
			} else if !errors.Is(err, ErrRunning) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(won) != 1 {
		t.Errorf("%d won", len(won))
	}
	for _, l := range won {
		l.Close()
	}
}

func TestInterfacesListsWhoAnswers(t *testing.T) {
	dir := socketDir(t)
	for _, name := range []string{"b", "a"} {
		l, err := listen(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	deadSocket(t, socketPath(dir, "dead"))
	os.WriteFile(socketPath(dir, "file"), nil, 0o600)
	os.WriteFile(filepath.Join(dir, "other"), nil, 0o600)
	names, err := interfaces(dir)
	if err != nil || !reflect.DeepEqual(names, []string{"a", "b"}) {
		t.Errorf("%q, %v", names, err)
	}
	if mode(t, socketPath(dir, "dead")) == 0 {
		t.Error("the dead one has gone")
	}
	if names, err := interfaces(filepath.Join(dir, "missing")); err != nil || names != nil {
		t.Errorf("no directory: %q, %v", names, err)
	}
}

func TestAListenerTakenOverIsTheNewProcessesOwn(t *testing.T) {
	dir := socketDir(t)
	first, err := listen(dir, "peer")
	if err != nil {
		t.Fatal(err)
	}
	first.SetUnlinkOnClose(false)
	f, err := first.File()
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	l, err := ListenerFromFile(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, &fakeDevice{status: fullStatus()}, nil) }()
	c, err := dial(dir, "peer")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s, err := c.Status(); err != nil || s.ListenPort != 51820 {
		t.Errorf("%+v, %v", s, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(socketPath(dir, "peer")); !os.IsNotExist(err) {
		t.Errorf("its file is still there: %v", err)
	}
}

func TestAListenerMustBeAUnixSocket(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, err := ListenerFromFile(null); err == nil {
		t.Error("/dev/null was taken for a socket")
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	f, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := ListenerFromFile(f); err == nil {
		t.Error("TCP was taken for a Unix socket")
	}
}

func TestRemovalOfTheSocketFileIsNoticed(t *testing.T) {
	for name, remove := range map[string]func(path string) error{
		"deleted":            os.Remove,
		"renamed":            func(path string) error { return os.Rename(path, path+".old") },
		"replaced":           func(path string) error { os.WriteFile(path+".new", nil, 0o600); return os.Rename(path+".new", path) },
		"with its directory": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := socketDir(t)
			path := socketPath(dir, "peer")
			l, err := listen(dir, "peer")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			done := make(chan error, 1)
			go func() { done <- Removed(t.Context(), l) }()
			// Other changes in the directory do not matter.
			os.WriteFile(path+".other", nil, 0o600)
			os.Remove(path + ".other")
			if err := remove(path); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if name == "replaced" {
				l.Close()
				if _, err := os.Lstat(path); err != nil {
					t.Errorf("the other's file: %v", err)
				}
			}
		})
	}
}

func TestAReplacementBeforeTheWatchIsNoticed(t *testing.T) {
	dir := socketDir(t)
	path := socketPath(dir, "peer")
	l, err := listen(dir, "peer")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	os.Remove(path)
	deadSocket(t, path)
	if err := Removed(t.Context(), l); err != nil {
		t.Error(err)
	}
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the other's file: %v", err)
	}
}

func TestWaitingForRemovalEndsWithItsContext(t *testing.T) {
	l, err := listen(socketDir(t), "peer")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Removed(ctx, l) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
