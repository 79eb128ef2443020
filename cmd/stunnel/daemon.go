package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// statusVariable tells a process that it is to become a daemon, and on which descriptor its parent waits for the news.
const statusVariable = "STUNNEL_DAEMON_STATUS"

// errSaid is an error whose words are on stderr already.
var errSaid = errors.New("")

// detach runs this very command once more, as a daemon, and returns when that is ready (nil) or has ended (its fate). What
// it writes to stderr until then the user sees. extra become the descriptors 4, 5, ...; env is added to its environment.
//
// Go can't fork, so the daemon does all the work itself; nothing but the extra files is handed over.
func detach(extra []*os.File, env []string) error {
	news, status, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	defer news.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = append([]*os.File{status}, extra...)
	cmd.Env = append(append(os.Environ(), env...), statusVariable+"=3")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}

	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)
	err = cmd.Start()
	status.Close()
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}

	ready := make(chan bool, 1)
	go func() {
		n, _ := news.Read(make([]byte, 1))
		ready <- n == 1
	}()
	for {
		select {
		case <-signals:
			// It is in a session of its own: the terminal's Ctrl-C reaches us only.
			_ = cmd.Process.Signal(unix.SIGTERM)
		case ok := <-ready:
			if ok {
				return cmd.Process.Release()
			}
			return fate(cmd.Wait())
		}
	}
}

// fate is the end of a daemon that was never ready.
func fate(err error) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return errors.New("it was told to end before it was ready")
	case !errors.As(err, &exit):
		return fmt.Errorf("detach: %w", err)
	case !exit.Exited():
		return fmt.Errorf("the daemon died: %v", exit.ProcessState)
	case exit.ExitCode() == exitUsage:
		return &usage{errSaid}
	}
	return errSaid
}

// daemon is the side of a detached process that talks to its parent.
type daemon struct {
	status   *os.File // where ready is said
	log      lineWriter
	logFile  *os.File // nil: the log is no file
	detached bool     // ready was said
	keepErr  bool     // stdout and stderr stay as they are
}

// inherited returns the daemon that this process was started to be, or nil. Only the first call finds it.
func inherited() *daemon {
	fd, err := strconv.Atoi(os.Getenv(statusVariable))
	if err != nil || fd < 3 {
		return nil
	}
	os.Unsetenv(statusVariable) // not for hooks
	unix.CloseOnExec(fd)
	// Else ps and pidof would know us as "exe". Where that can't be, they do.
	_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
	return &daemon{status: os.NewFile(uintptr(fd), "status")}
}

// openLog prepares what the log goes to once the terminal is let go: path, or if that is "" the system's log, or nothing.
func (d *daemon) openLog(path string) error {
	if path != "" {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return fmt.Errorf("log file: %w", err)
		}
		d.log, d.logFile = fileLines{f}, f
		return nil
	}
	if w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, "stunnel"); err == nil {
		d.log = systemLines{w}
	}
	return nil
}

// ready lets go of the terminal, sends further lines of out to the log, and tells the parent. An error: the parent is not
// there any more, and whoever started it believes that the tunnel is not either. hookOutput is where hooks now print to.
func (d *daemon) ready(out *lines, log *slog.Logger) (hookOutput io.Writer, err error) {
	if err := os.Chdir("/"); err != nil {
		return nil, fmt.Errorf("detach: %w", err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("detach: %w", err)
	}
	defer null.Close()
	if !d.keepErr {
		out.to(d.log)
		for fd := range 3 {
			if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
				return nil, fmt.Errorf("detach: %w", err)
			}
		}
	}
	d.detached = true
	_, err = d.status.Write([]byte{1})
	d.status.Close()
	if err != nil {
		return nil, fmt.Errorf("detach: the parent has gone: %w", err)
	}
	switch {
	case d.logFile != nil:
		return d.logFile, nil
	case d.log != nil:
		return &lineSplitter{log: func(line string) { log.Info(line) }}, nil
	}
	return os.Stderr, nil
}

// systemLines writes to the system's log, which knows levels and adds time and name itself.
type systemLines struct{ w *syslog.Writer }

func (s systemLines) writeLine(level slog.Level, line string) {
	switch {
	case level >= slog.LevelError:
		_ = s.w.Err(line)
	case level >= slog.LevelWarn:
		_ = s.w.Warning(line)
	case level >= slog.LevelInfo:
		_ = s.w.Info(line)
	default:
		_ = s.w.Debug(line)
	}
}
