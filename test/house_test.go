// Package test holds the house to its plan: which package may import which, and
// how long a file may be.
package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mayImport lists what each package of the product may import of ours. Imports
// point one way: cmd to transport to crypto; device, sockets, extension and
// crypto (with its AEAD) are leaves.
var mayImport = map[string][]string{
	"stunnel/crypto":                  {"stunnel/crypto/chachapoly"},
	"stunnel/crypto/chachapoly":       {},
	"stunnel/device":                  {},
	"stunnel/device/netconf":          {"stunnel/device/netconf/dns", "stunnel/device/netconf/ruleset", "stunnel/device/netconf/statedir"},
	"stunnel/device/netconf/dns":      {"stunnel/device/netconf/statedir"},
	"stunnel/device/capture":          {},
	"stunnel/device/netconf/ruleset":  {},
	"stunnel/device/netconf/statedir": {},
	"stunnel/transport/socket":        {},
	"stunnel/transport/extension":     {},
	"stunnel/transport/ethernet":      {},
	"stunnel/transport/fdb":           {"stunnel/transport/ethernet"},
	"stunnel/transport": {"stunnel/crypto", "stunnel/transport/socket", "stunnel/transport/extension",
		"stunnel/transport/ethernet", "stunnel/transport/fdb"},
	"stunnel/cmd/internal/conf":         {"stunnel/crypto", "stunnel/transport", "stunnel/cmd/internal/conf/nearest"},
	"stunnel/cmd/internal/conf/nearest": {},
	"stunnel/cmd/internal/control":      {"stunnel/crypto", "stunnel/transport"},
	"stunnel/cmd/internal/doctor":       {"stunnel/cmd/internal/conf", "stunnel/device/netconf", "stunnel/device/netconf/ruleset", "stunnel/transport"},
	"stunnel/cmd/stunnel": {"stunnel/crypto", "stunnel/crypto/chachapoly", "stunnel/device", "stunnel/device/netconf", "stunnel/device/netconf/dns", "stunnel/device/netconf/ruleset", "stunnel/device/netconf/statedir", "stunnel/device/capture",
		"stunnel/transport", "stunnel/transport/socket", "stunnel/cmd/internal/conf", "stunnel/cmd/internal/conf/nearest", "stunnel/cmd/internal/control", "stunnel/cmd/internal/doctor"},
}

func TestImportsPointOneWay(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "stunnel/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		name, imports := words[0], words[1:]
		if strings.HasPrefix(name, "stunnel/test") {
			continue
		}
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("%s is new: say here what it may import", name)
			continue
		}
		seen++
		for _, i := range imports {
			if strings.HasPrefix(i, "stunnel/") && !slices.Contains(allowed, i) {
				t.Errorf("%s imports %s", name, i)
			}
		}
	}
	if seen != len(mayImport) {
		t.Errorf("%d packages found, %d are listed here", seen, len(mayImport))
	}
}

func TestNoFileIsLongerThan500Lines(t *testing.T) {
	files := 0
	err := filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		if n := bytes.Count(text, []byte("\n")); n > 500 {
			t.Errorf("%s has %d lines", path, n)
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files, %v", files, err)
	}
}
