package control

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"stunnel/transport"
)

// Client is a connection to the control socket of one interface. One caller at a time.
type Client struct {
	name string
	conn *net.UnixConn
	br   *bufio.Reader
}

// Dial connects to the program that runs the interface. The error wraps ErrNotRunning
// when there is none, fs.ErrPermission when the caller may not ask.
func Dial(name string) (*Client, error) { return dial(Dir, name) }

func dial(dir, name string) (*Client, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	c, err := net.DialTimeout("unix", socketPath(dir, name), operationTime)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%s %w", name, ErrNotRunning)
	case err != nil:
		return nil, fmt.Errorf("control socket of %s: %w", name, err)
	}
	return &Client{name: name, conn: c.(*net.UnixConn), br: bufio.NewReaderSize(c, maxLine)}, nil
}

// Name is that of the interface.
func (c *Client) Name() string { return c.name }

// Close ends the connection; it never fails in a way that matters.
func (c *Client) Close() { c.conn.Close() }

// PID is the process id of the program that listens; 0: it is not known, because it lives
// in a process namespace that we do not see, or because the process that opened the
// socket has left it to another one and ended, as wireguard-go's does.
func (c *Client) PID() int { return listenerPID(c.conn) }

func listenerPID(c *net.UnixConn) int {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	if pid <= 0 || errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return 0
	}
	return pid
}

// Status asks for the state. Up, MTU, TrustedChecksums, Drops, and the peers' names and
// extensions are told by stunnel only; of another program Up is false and MTU 0. The error wraps a syscall.Errno if
// the other end answered one.
func (c *Client) Status() (transport.Status, error) {
	if err := c.send([]byte("get=1\n\n")); err != nil {
		return transport.Status{}, err
	}
	limited := &io.LimitedReader{R: c.conn, N: maxReply}
	c.br.Reset(limited)
	status, err := readStatus(c.br)
	if err != nil {
		return transport.Status{}, fmt.Errorf("status of %s: %w", c.name, err)
	}
	return status, nil
}

// Configure applies a change. The error wraps a syscall.Errno if the other end answered one.
func (c *Client) Configure(config transport.Config) error {
	errno, err := c.set(appendConfig(nil, &config))
	if err == nil && errno != 0 {
		err = errno
	}
	if err != nil {
		return fmt.Errorf("configuring %s: %w", c.name, err)
	}
	return nil
}

// Stop asks the program to end and returns when it has answered; the interface goes
// afterwards. The error wraps ErrForeign when the other end does not know the request.
func (c *Client) Stop() error {
	errno, err := c.set([]byte("stop=true\n"))
	switch {
	case err != nil:
		return fmt.Errorf("stopping %s: %w", c.name, err)
	case errno == syscall.EINVAL || errno == syscall.EPROTO:
		return fmt.Errorf("%s %w", c.name, ErrForeign)
	case errno != 0:
		return fmt.Errorf("stopping %s: %w", c.name, errno)
	}
	return nil
}

func (c *Client) set(lines []byte) (syscall.Errno, error) {
	if err := c.send(slices.Concat([]byte("set=1\n"), lines, []byte("\n"))); err != nil {
		return 0, err
	}
	c.br.Reset(c.conn)
	return readErrno(c.br)
}

// readErrno reads the reply to a set.
func readErrno(br *bufio.Reader) (syscall.Errno, error) {
	errno := -1
	for {
		line, err := nextLine(br)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, err
		}
		if len(line) == 0 {
			break
		}
		if key, value, ok := cutLine(line); ok && key == "errno" {
			if errno, err = parseErrno(value); err != nil {
				return 0, fmt.Errorf("the answer has a faulty errno: %w", err)
			}
		}
	}
	if errno < 0 {
		return 0, errors.New("the answer has no errno")
	}
	return syscall.Errno(errno), nil
}

func (c *Client) send(request []byte) error {
	if err := c.conn.SetDeadline(time.Now().Add(operationTime)); err != nil {
		return err
	}
	_, err := c.conn.Write(request)
	return err
}

// Interfaces lists, in order, the interfaces whose control sockets are answered by some
// program, also those that the caller may not ask. Dead sockets are left out, and left.
func Interfaces() ([]string, error) { return interfaces(Dir) }

func interfaces(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("control sockets: %w", err)
	}
	var names []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".sock")
		if !ok || e.Type()&fs.ModeSocket == 0 || CheckName(name) != nil {
			continue
		}
		if running, _ := answers(filepath.Join(dir, e.Name())); running {
			names = append(names, name)
		}
	}
	return names, nil
}
