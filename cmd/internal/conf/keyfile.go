package conf

import (
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"

	"stunnel/crypto"
)

// keyReader returns the text of a key file and what others may do with the file.
type keyReader func(path string) (text string, others access, err error)

// keyFileLimit is more than any key file has, in bytes.
const keyFileLimit = 4096

// readKeyFile is the keyReader of Load.
func readKeyFile(path string) (string, access, error) {
	text, others, err := readFile(path, keyFileLimit)
	return strings.TrimSpace(string(text)), others, err
}

// readKeys fills in the keys that stand in files of their own. Errors are those of the lines that name the files.
func (p *parser) readKeys(read keyReader) {
	if in := &p.file.Interface; in.PrivateKeyFile != "" {
		at := p.interfaceLines["PrivateKeyFile"]
		in.PrivateKeyFile = p.beside(in.PrivateKeyFile)
		if text, ok := p.keyText(read, at, "PrivateKeyFile", in.PrivateKeyFile); ok {
			k, err := crypto.ParsePrivateKey(text)
			switch {
			case err != nil:
				p.fail(at, keyHint(text, "genkey"), "PrivateKeyFile %s: %v", in.PrivateKeyFile, err)
			case k.IsZero():
				p.fail(at, keyHint(text, "genkey"), "PrivateKeyFile %s: the key is all zeros, which means no key", in.PrivateKeyFile)
			default:
				in.PrivateKey = &k
			}
		}
	}
	for i := range p.file.Peers {
		peer, at := &p.file.Peers[i], p.peers[i].pskFile
		if peer.PresharedKeyFile == "" {
			continue
		}
		peer.PresharedKeyFile = p.beside(peer.PresharedKeyFile)
		if text, ok := p.keyText(read, at, "PresharedKeyFile", peer.PresharedKeyFile); ok {
			k, err := crypto.ParsePresharedKey(text)
			if err != nil {
				p.fail(at, keyHint(text, "genpsk"), "PresharedKeyFile %s: %v", peer.PresharedKeyFile, err)
				continue
			}
			peer.PresharedKey = &k
		}
	}
}

// beside takes a relative name from the directory of the configuration file, wherever the program was started.
func (p *parser) beside(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(p.path), name)
}

func (p *parser) keyText(read keyReader, at int, key, path string) (text string, ok bool) {
	text, others, err := read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.fail(at, "a relative name is taken from the directory of the configuration file", "%s %s does not exist", key, path)
		return "", false
	case err != nil:
		p.fail(at, "", "%s %s cannot be read: %v", key, path, reason(err))
		return "", false
	}
	if others.read != "" {
		p.warn(at, "%s %s: %s; chmod 600 it", key, path, others.read)
	}
	switch {
	case others.write != "":
		p.fail(at, others.remedy, "%s %s: %s; it is not used", key, path, others.write)
		return "", false
	case text == "":
		p.fail(at, "", "%s %s is empty; it holds one key, 44 characters of base64", key, path)
		return "", false
	}
	return text, true
}

// keyInPlaceOfName matches a name with a key in it, or a key without its last character. A file of the latter name is reached
// by ./NAME.
var keyInPlaceOfName = regexp.MustCompile(`^[A-Za-z0-9+/]{43}$|[A-Za-z0-9+/]{43}=`)

// keyFileName takes the name of a key file, but not a key in its place: names are shown in errors.
func (p *parser) keyFileName(l line, inline string) (name string, ok bool) {
	if keyInPlaceOfName.MatchString(squeeze(l.value)) {
		p.fail(l.number, "", "%sFile has %d characters that look like the key itself; write %s = ... for it", inline, len(l.value), inline)
		return "", false
	}
	return l.value, true
}

// reason is err without the path, which its reader has said already.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
