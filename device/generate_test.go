package device

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestAssemblyIsWhatItsGeneratorWrites(t *testing.T) {
	if out, err := exec.Command("go", "mod", "download", "-C", "gen").CombinedOutput(); err != nil {
		t.Skipf("can't fetch the assembly generator github.com/mmcloughlin/avo: needs the go command and a Go module proxy once: %v\n%s", err, out)
	}
	path := filepath.Join(t.TempDir(), "checksum_amd64.s")
	if out, err := exec.Command("go", "run", "-C", "gen", ".", "-out", path, "-pkg", "device").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !bytes.Equal(assembly(t, path), assembly(t, "checksum_amd64.s")) {
		t.Error("checksum_amd64.s is not what gen writes: run go generate ./device")
	}
}

// assembly is a file without its first line, which has the path that gen wrote to.
func assembly(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(text, []byte("\n"))
	return rest
}
