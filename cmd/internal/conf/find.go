package conf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"stunnel/cmd/internal/conf/nearest"
)

// Where a bare name is looked for, in this order. Variables for the tests' sake.
var (
	ownDir     = "/etc/stunnel"
	searchDirs = []string{ownDir, "/etc/wireguard"}
)

// Find returns the path of the configuration file that arg means: arg itself if it ends in .conf or has a '/', else
// the file arg.conf in /etc/stunnel or /etc/wireguard. The file was there when Find looked.
func Find(arg string) (path string, err error) {
	if arg == "." || arg == ".." {
		return "", &Error{File: arg, Msg: "it is a directory", Hint: "name a file in it, as " + arg + "/peer.conf"}
	}
	if strings.HasSuffix(arg, ".conf") || strings.Contains(arg, "/") {
		return findFile(arg)
	}
	if why := nameFault(arg); why != "" {
		return "", &Error{File: arg, Msg: why, Hint: "name a file, as ./peer.conf, or an interface that has one in " + ownDir}
	}
	for _, dir := range searchDirs {
		path := filepath.Join(dir, arg+".conf")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		} else if errors.Is(err, fs.ErrPermission) {
			return "", &Error{File: path, Msg: "permission denied", Hint: "only root may look into " + dir, cause: err}
		}
	}
	return "", &Error{File: arg + ".conf", Msg: fmt.Sprintf("no such file in %s", strings.Join(searchDirs, " or ")), Hint: elsewhere(arg)}
}

func findFile(path string) (string, error) {
	_, err := os.Stat(path)
	if err == nil {
		return path, nil
	}
	e := &Error{File: path, Msg: reason(err).Error(), cause: err}
	if errors.Is(err, fs.ErrPermission) {
		e.Hint = readHint(err)
	} else if _, err := os.Stat(path + ".conf"); err == nil {
		e.Hint = "did you mean " + path + ".conf?"
	} else if !strings.Contains(path, "/") {
		for _, dir := range searchDirs {
			if _, err := os.Stat(filepath.Join(dir, path)); err == nil {
				e.Hint = fmt.Sprintf("there is one in %s: use the bare name %s", dir, strings.TrimSuffix(path, ".conf"))
				return "", e
			}
		}
		e.Hint = "it was looked for in this directory"
	}
	return "", e
}

// elsewhere makes the hint for a bare name that has no file.
func elsewhere(name string) string {
	for _, path := range []string{"./" + name + ".conf", "./" + name} {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return fmt.Sprintf("did you mean %s? A file is named with its directory or with its .conf", path)
		}
	}
	var known []string
	for _, dir := range searchDirs {
		paths, _ := filepath.Glob(filepath.Join(dir, "*.conf")) // the pattern is right
		for _, p := range paths {
			known = append(known, strings.TrimSuffix(filepath.Base(p), ".conf"))
		}
	}
	if near := nearest.Word(name, known); near != "" {
		return "did you mean " + near + "?"
	}
	return "name a file, as ./" + name + ".conf"
}

var nameForm = regexp.MustCompile(`^[a-zA-Z0-9_=+.-]+$`)

// nameOf returns the name of the interface that the file at path describes.
func nameOf(path string) (name, why string) {
	base := filepath.Base(path)
	name, found := strings.CutSuffix(base, ".conf")
	if !found {
		return "", "the name of a configuration file is that of the interface and .conf, as peer.conf"
	}
	if why := nameFault(name); why != "" {
		return "", "the interface is named after the file: " + why
	}
	return name, ""
}

// nameFault says why an interface cannot have this name, "" if it can.
func nameFault(name string) string {
	switch {
	case name == "":
		return "the name is empty"
	case len(name) > 15:
		return fmt.Sprintf("%s has %d characters, and an interface can have 15", quote(name), len(name))
	case !nameForm.MatchString(name):
		return fmt.Sprintf("%s has other characters than a-z, A-Z, 0-9 and _=+.-", quote(name))
	case name == "." || name == ".." || name == "all" || name == "default":
		return fmt.Sprintf("the kernel keeps %s for itself", quote(name))
	}
	return ""
}

// inWrapperDir tells whether path lies where the files of the TLS wrapper of the same name are.
func inWrapperDir(path string) bool {
	abs, err := filepath.Abs(path)
	return err == nil && filepath.Dir(abs) == ownDir
}
