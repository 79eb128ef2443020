package chachapoly

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestAssemblyIsWhatItsGeneratorsWrite(t *testing.T) {
	if out, err := exec.Command("go", "mod", "download", "-C", "gen").CombinedOutput(); err != nil {
		t.Skipf("can't fetch the assembly generator github.com/mmcloughlin/avo: needs the go command and a Go module proxy once: %v\n%s", err, out)
	}
	for _, name := range []string{"avx2", "avx512"} {
		file := name + "_amd64.s"
		path := filepath.Join(t.TempDir(), file)
		if out, err := exec.Command("go", "run", "-C", "gen", "./"+name, "-out", path, "-pkg", "chachapoly").CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if !bytes.Equal(assembly(t, path), assembly(t, file)) {
			t.Errorf("%s is not what gen/%s writes: run go generate ./crypto/chachapoly", file, name)
		}
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
