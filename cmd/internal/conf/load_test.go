package conf

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// write makes a file with exactly this mode, whatever the umask.
func write(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// place makes a directory that only we can write.
func place(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// fault loads a file that is to be refused.
func fault(t *testing.T, path, want string) {
	t.Helper()
	f, err := Load(path)
	if err == nil {
		t.Fatalf("it was taken: %+v", f)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
	if strings.Contains(everything(err), private[:secretRun]) {
		t.Errorf("the private key is in the error: %v", err)
	}
}

func TestAFileThatOthersCanReadIsWarnedOfIfItHasSecrets(t *testing.T) {
	dir := place(t)
	path := write(t, dir+"/peer.conf", valid, 0o644)
	f, err := Load(path)
	if err != nil || len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0], "others can read this file") {
		t.Fatal(f, err)
	}
	write(t, path, valid, 0o640)
	if f, err = Load(path); err != nil || f.Warnings != nil {
		t.Error(f, err)
	}
	write(t, dir+"/key", private+"\n", 0o600)
	write(t, path, "[Interface]\nPrivateKeyFile = key\n", 0o644)
	if f, err = Load(path); err != nil || f.Warnings != nil {
		t.Error(f, err)
	}
}

func TestAFileThatOthersCanWriteIsRefused(t *testing.T) {
	dir := place(t)
	path := write(t, dir+"/peer.conf", valid, 0o602)
	fault(t, path, "peer.conf: others can write this file; it is not used")
	// All that is wrong is said at once.
	write(t, path, inPeer("Endpoint = x"), 0o606)
	fault(t, path, "peer.conf:8: Endpoint")
	fault(t, path, "others can write this file")
}

func TestAFileInADirectoryThatOthersCanWriteIsRefused(t *testing.T) {
	dir := place(t)
	path := write(t, dir+"/peer.conf", valid, 0o600)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	fault(t, path, "others can write its directory "+dir)

	link := place(t) + "/peer.conf"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	fault(t, link, "others can write its directory "+dir)

	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil { // as /tmp
		t.Fatal(err)
	}
	if _, err := Load(path); err != nil {
		t.Error(err)
	}
}

func TestAFileThatAForeignGroupCanWriteIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files to other groups; run as root")
	}
	path := write(t, place(t)+"/peer.conf", valid, 0o660)
	for _, c := range []struct {
		uid, gid int
		refused  bool
	}{
		{0, 0, false}, {0, 4711, true}, {1000, 1000, false}, {1000, 100, true}, {1000, os.Getegid(), false},
	} {
		if err := os.Chown(path, c.uid, c.gid); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); (err != nil) != c.refused {
			t.Errorf("owner %d, group %d: %v", c.uid, c.gid, err)
		}
	}
}

func TestKeysAreReadFromFilesBesideTheConfiguration(t *testing.T) {
	dir := place(t)
	path := write(t, dir+"/peer.conf", "[Interface]\nPrivateKeyFile = host.key\n[Peer]\nPublicKey = "+alice+
		"\nAllowedIPs = 10.0.0.1\nPresharedKeyFile = "+dir+"/alice.psk\n", 0o644)
	write(t, dir+"/host.key", private+"\n\n", 0o600)
	write(t, dir+"/alice.psk", psk, 0o644)
	f, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if f.Interface.PrivateKey.Base64() != private || f.Peers[0].PresharedKey.Base64() != psk {
		t.Error("other keys than those in the files")
	}
	if f.Interface.PrivateKeyFile != dir+"/host.key" {
		t.Error(f.Interface.PrivateKeyFile)
	}
	want := []string{path + ":6: PresharedKeyFile " + dir + "/alice.psk: others can read this file; chmod 600 it"}
	if !slices.Equal(f.Warnings, want) {
		t.Errorf("got %q, want %q", f.Warnings, want)
	}
}

func TestAFaultyKeyFileIsAnErrorOfTheLineThatNamesIt(t *testing.T) {
	dir := place(t)
	path := write(t, dir+"/peer.conf", "[Interface]\n\nPrivateKeyFile = key\n", 0o600)
	key := dir + "/key"
	at := path + ":3: PrivateKeyFile " + key

	fault(t, path, at+" does not exist")
	write(t, key, private, 0o602)
	fault(t, path, at+": others can write this file; it is not used")
	write(t, key, " \n", 0o600)
	fault(t, path, at+" is empty")
	write(t, key, private[1:], 0o600)
	fault(t, path, at+": a key has 44 characters of base64, not 43")
	write(t, key, private+private, 0o600)
	fault(t, path, at+": a key has 44 characters of base64, not 88")
	write(t, key, strings.Repeat("A", 43)+"=", 0o600)
	fault(t, path, at+": the key is all zeros")
	write(t, key, strings.Repeat(private, 1000), 0o600)
	fault(t, path, at+" cannot be read: it has more than 4096 bytes")
	os.Remove(key)
	if err := os.Mkdir(key, 0o700); err != nil {
		t.Fatal(err)
	}
	fault(t, path, at+" cannot be read: it is a directory")
}

func TestOurOwnKeyAsAPeerIsFoundAlsoWhenItComesFromAFile(t *testing.T) {
	dir := place(t)
	write(t, dir+"/key", private, 0o600)
	path := write(t, dir+"/peer.conf", "[Interface]\nPrivateKeyFile = key\n[Peer]\nPublicKey = "+own+"\n", 0o600)
	fault(t, path, "peer.conf:4: this PublicKey is our own: it belongs to the private key of line 2")
}

func TestWhatIsNoFileIsNotReadAndDoesNotHoldUsUp(t *testing.T) {
	dir := place(t)
	fault(t, dir+"/none.conf", "none.conf: no such file or directory")
	if err := os.Mkdir(dir+"/dir.conf", 0o700); err != nil {
		t.Fatal(err)
	}
	fault(t, dir+"/dir.conf", "it is a directory")
	if err := syscall.Mkfifo(dir+"/pipe.conf", 0o600); err != nil {
		t.Fatal(err)
	}
	fault(t, dir+"/pipe.conf", "it is not a regular file")
}

// searchIn makes the search directories ones of the test.
func searchIn(t *testing.T) (stunnel, wireguard string) {
	stunnel, wireguard = place(t), place(t)
	oldOwn, oldDirs := ownDir, searchDirs
	ownDir, searchDirs = stunnel, []string{stunnel, wireguard}
	t.Cleanup(func() { ownDir, searchDirs = oldOwn, oldDirs })
	return stunnel, wireguard
}

func TestABareNameIsLookedForInBothDirectories(t *testing.T) {
	stunnel, wireguard := searchIn(t)
	t.Chdir(place(t))
	write(t, wireguard+"/peer.conf", valid, 0o600)
	write(t, wireguard+"/other.conf", valid, 0o600)
	write(t, stunnel+"/other.conf", valid, 0o600)
	write(t, "here.conf", valid, 0o600)

	for arg, want := range map[string]string{
		"peer":                    wireguard + "/peer.conf",
		"other":                   stunnel + "/other.conf",
		"here.conf":               "here.conf",
		"./here.conf":             "./here.conf",
		wireguard + "/other.conf": wireguard + "/other.conf",
	} {
		if got, err := Find(arg); err != nil || got != want {
			t.Errorf("Find(%q) = %q, %v, want %q", arg, got, err, want)
		}
	}
	for arg, hint := range map[string]string{
		"here":               "did you mean ./here.conf?",
		"othr":               "did you mean other?",
		"nowhere":            "name a file, as ./nowhere.conf",
		"peer.conf":          "use the bare name peer",
		"./peer.conf":        "",
		wireguard + "/other": "did you mean " + wireguard + "/other.conf?",
		"./here":             "did you mean ./here.conf?",
		".":                  "name a file in it, as ./peer.conf",
		"a name with spaces": "name a file",
		"sixteen--letters":   "name a file",
	} {
		path, err := Find(arg)
		if err == nil {
			t.Errorf("Find(%q) = %q", arg, path)
		} else if e := err.(*Error); !strings.Contains(e.Hint, hint) {
			t.Errorf("Find(%q): %v, hint %q, want %q", arg, err, e.Hint, hint)
		}
	}
}

func TestAFileOfTheTLSWrapperIsRecognised(t *testing.T) {
	stunnel, _ := searchIn(t)
	path := write(t, filepath.Join(stunnel, "peer.conf"), "pid = /run/x.pid\n[imap]\nexec = x\n", 0o600)
	_, err := Load(path)
	if err == nil || !strings.Contains(everything(err), "TLS wrapper") {
		t.Error(err)
	}
	if strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("more than one error: %v", err)
	}
}

func TestOnlyKeysThatWireGuardHasNotMakeAFileTheTLSWrappers(t *testing.T) {
	stunnel, _ := searchIn(t)
	for _, text := range []string{"", "\n# nothing yet\n", "[Peer]\nPublicKey = " + alice + "\n", "PublicKey = " + alice + "\n"} {
		_, err := Load(write(t, filepath.Join(stunnel, "peer.conf"), text, 0o600))
		if err == nil || strings.Contains(everything(err), "TLS wrapper") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestATypoInOurOwnFileIsNotTakenForTheTLSWrapper(t *testing.T) {
	stunnel, _ := searchIn(t)
	path := write(t, filepath.Join(stunnel, "peer.conf"), "[Interfcae]\nPrivateKey = "+private+"\n", 0o600)
	_, err := Load(path)
	if err == nil || !strings.Contains(everything(err), "did you mean [Interface]?") {
		t.Error(err)
	}
}
