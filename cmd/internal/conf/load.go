package conf

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// fileLimit bounds a configuration file, in bytes: about 100,000 peers.
const fileLimit = 32 << 20

// Load reads and checks the configuration file at path, and the key files that it names.
//
// What is wrong with the contents comes as an errors.Join of *Error, all of them, in the order of their lines.
// A file that others can write is refused; one that others can read, and that has secrets, gets a warning.
func Load(path string) (*File, error) {
	text, others, err := readFile(path, fileLimit)
	if err != nil {
		return nil, &Error{File: path, Msg: reason(err).Error(), Hint: readHint(err), cause: err}
	}
	return parse(path, text, source{others: others, readKey: readKeyFile})
}

func readHint(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "the owner of the file, or root, can read it"
	case errors.Is(err, fs.ErrNotExist):
		return "a bare name, without .conf and '/', is looked for in /etc/stunnel and /etc/wireguard"
	}
	return ""
}

// access says in words what others than the owner may do with a file; "" where they may not.
type access struct {
	read, write string
	remedy      string // against write
}

var errNotRegular = errors.New("it is not a regular file")

// readFile reads a file of at most limit bytes. The access is that of the very file that was read.
func readFile(path string, limit int64) (text []byte, others access, err error) {
	// O_NONBLOCK: a pipe in the file's place must not hold us up.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, access{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, access{}, err
	}
	if info.IsDir() {
		return nil, access{}, errors.New("it is a directory")
	}
	if !info.Mode().IsRegular() {
		return nil, access{}, errNotRegular
	}
	text, err = io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, access{}, err
	}
	if int64(len(text)) > limit {
		return nil, access{}, fmt.Errorf("it has more than %d bytes", limit)
	}
	return text, accessOf(path, info), nil
}

// accessOf judges the file, and the directories in which it and, if path is a link, the link lie: who can write
// there can put another file in its place, unless the directory is sticky as /tmp is. Directories further up are
// the administrator's business.
func accessOf(path string, info fs.FileInfo) access {
	var a access
	if info.Mode().Perm()&0o004 != 0 {
		a.read = "others can read this file"
	}
	if who := writers(info); who != "" {
		a.write = who + " can write this file"
		a.remedy = "chmod go-w " + path
		return a
	}
	dirs := []string{filepath.Dir(path)}
	if real, err := filepath.EvalSymlinks(path); err == nil && filepath.Dir(real) != dirs[0] {
		dirs = append(dirs, filepath.Dir(real))
	}
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&fs.ModeSticky != 0 {
			continue
		}
		if who := writers(info); who != "" {
			a.write = who + " can write its directory " + dir
			a.remedy = "chmod go-w " + dir
			return a
		}
	}
	return a
}

// writers says who can write besides the owner: others, or a group that is neither root's, nor ours, nor the owner's
// private one (of the same number, as most systems make it).
func writers(info fs.FileInfo) string {
	if info.Mode().Perm()&0o002 != 0 {
		return "others"
	}
	if info.Mode().Perm()&0o020 != 0 {
		s, ok := info.Sys().(*syscall.Stat_t)
		if ok && s.Gid != 0 && s.Gid != s.Uid && int(s.Gid) != os.Getegid() {
			return fmt.Sprintf("all of group %d", s.Gid)
		}
	}
	return ""
}
