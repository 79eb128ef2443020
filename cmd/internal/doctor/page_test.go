package doctor

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestThePageHasEachKindOfFinding(t *testing.T) {
	page, err := os.ReadFile("../../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	there, told := make(map[string]bool), make(map[string]bool)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range regexp.MustCompile(`(?:\bID: |f\.ID, f\.What = )"(\w+)"`).FindAllSubmatch(text, -1) {
			there[string(m[1])] = true
		}
	}
	for _, row := range regexp.MustCompile(`(?m)^\| (.*?) \|`).FindAllSubmatch(page, -1) {
		for _, m := range regexp.MustCompile("`(\\w+)`").FindAllSubmatch(row[1], -1) {
			told[string(m[1])] = true
		}
	}
	if !maps.Equal(there, told) || len(there) == 0 {
		t.Errorf("the page tells of\n%v, and there are\n%v", slices.Sorted(maps.Keys(told)), slices.Sorted(maps.Keys(there)))
	}
}
