package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Removed waits until the file of l's socket has been deleted, renamed or replaced, which
// is how users of wireguard-go end it. It returns nil then, and l no longer removes the
// file when it is closed, as it may be another's by then. Else it returns ctx's error.
func Removed(ctx context.Context, l *net.UnixListener) error {
	path := l.Addr().String()
	w, err := watchPath(path)
	if err == nil {
		defer w.Close()
		if isOurs(path) { // it may have been replaced before the watch began
			err = w.Gone(ctx)
		}
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		l.SetUnlinkOnClose(false)
		return nil
	}
	return err
}

// isOurs says whether this process listens on the socket at path.
func isOurs(path string) bool {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return errors.Is(err, syscall.EAGAIN) || errors.Is(err, os.ErrDeadlineExceeded) // too many wait to be answered
	}
	defer c.Close()
	return listenerPID(c.(*net.UnixConn)) == os.Getpid()
}

// Watch looks at one socket file.
type Watch struct {
	path    string
	file    os.FileInfo
	inotify *os.File
}

// WatchSocket begins to watch the control socket of an interface. Between WatchSocket and
// Gone nothing is missed. The error wraps fs.ErrNotExist when there is no such file.
func WatchSocket(name string) (*Watch, error) { return watchPath(socketPath(Dir, name)) }

func watchPath(path string) (*Watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	w := &Watch{path: path, inotify: os.NewFile(uintptr(fd), "inotify")}
	// The directory, not the file: a bound socket keeps its inode alive, so the file's own
	// deletion would not be told.
	dir := filepath.Dir(path)
	const events = unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_CREATE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(fd, dir, events); err != nil {
		w.Close()
		return nil, fmt.Errorf("inotify: %w", &fs.PathError{Op: "watch", Path: dir, Err: err})
	}
	if w.file, err = os.Lstat(path); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Gone waits until the file that was there at the beginning is there no longer. One
// caller at a time. It returns ctx's error when that comes first.
func (w *Watch) Gone(ctx context.Context) error {
	w.inotify.SetReadDeadline(time.Time{})
	defer context.AfterFunc(ctx, func() { w.inotify.SetReadDeadline(time.Unix(1, 0)) })()
	buf := make([]byte, 64*(unix.SizeofInotifyEvent+unix.NAME_MAX+1))
	for {
		now, err := os.Lstat(w.path)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
			return nil
		case err != nil:
			return err
		case !os.SameFile(now, w.file):
			return nil
		}
		// What the events say does not matter, only that something has changed.
		if _, err := w.inotify.Read(buf); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("inotify: %w", err)
		}
	}
}

// Close ends the watch.
func (w *Watch) Close() { w.inotify.Close() }
