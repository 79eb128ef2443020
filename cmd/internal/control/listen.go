package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listen makes the control socket of an interface, with mode 0600, in Dir, which is made
// with mode 0755 if it is missing and otherwise left alone. A socket on which nobody
// listens any more is replaced; the error wraps ErrRunning when somebody does. Closing
// the listener removes the socket file.
func Listen(name string) (*net.UnixListener, error) { return listen(Dir, name) }

func listen(dir, name string) (*net.UnixListener, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// Two that start at once must not take each other's fresh socket for a dead one.
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer unlock()

	path := socketPath(dir, name)
	running, err := answers(path)
	switch {
	case running:
		return nil, fmt.Errorf("%s %w", name, ErrRunning)
	case err == nil:
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control socket: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return bind(path)
}

// bind makes the socket file. Its mode is set on the descriptor before, so that the file
// never has another one; changing the umask would hit the whole process.
func bind(path string) (*net.UnixListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var chmod error
		err := c.Control(func(fd uintptr) { chmod = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, chmod)
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := restoreMode(path); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l.(*net.UnixListener), nil
}

// restoreMode gives the socket file what an odd umask has taken away. It follows no link
// that somebody may have put there meanwhile.
func restoreMode(path string) error {
	const mode = 0o600
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() == mode {
		return err
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return os.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode)
}

// ListenerFromFile takes over a listening control socket that another process has opened
// (WG_UAPI_FD, or our own parent), and with it the duty to remove its file. f is
// duplicated; the caller closes it.
func ListenerFromFile(f *os.File) (*net.UnixListener, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("control socket: descriptor %d: %w", f.Fd(), err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("control socket: descriptor %d is not a Unix socket", f.Fd())
	}
	// To listen once more makes this process the one whose id clients see.
	raw, err := u.SyscallConn()
	if err == nil {
		var again error
		err = raw.Control(func(fd uintptr) { again = unix.Listen(int(fd), unix.SOMAXCONN) })
		err = errors.Join(err, again)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: descriptor %d: %w", f.Fd(), err)
	}
	u.SetUnlinkOnClose(true)
	return u, nil
}

// answers says whether somebody listens on the socket at path. Without an error and
// without an answer, path is a dead socket. The error wraps fs.ErrNotExist when there
// is nothing. A socket that the caller may not ask counts as answered.
func answers(path string) (bool, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return false, err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return false, fmt.Errorf("%s is in the way: it is not a socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		c.Close()
		return true, nil
	case errors.Is(err, syscall.ECONNREFUSED):
		return false, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	return true, err
}

// makeDir makes dir if it is missing; the umask has no say in its mode then.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// lockTime is how long lockDir tries.
const lockTime = 2 * time.Second

// lockDir waits until it alone may make sockets in dir, but not for ever: the lock is on
// the directory itself, which leaves nothing behind and can be held by anybody who may
// look into it. Who holds it that long does so out of malice, and gets nothing by it but
// that two programs that start at once are not kept apart.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockTime); ; time.Sleep(20 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { f.Close() }, nil
		case errors.Is(err, unix.EWOULDBLOCK) && time.Now().After(end):
			return func() { f.Close() }, nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			f.Close()
			return nil, &fs.PathError{Op: "flock", Path: dir, Err: err}
		}
	}
}
