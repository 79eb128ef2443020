package conf

import (
	"bufio"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"stunnel/cmd/internal/conf/nearest"
)

// tableNames maps the names of routing tables to their numbers.
type tableNames map[string]uint32

// systemTables reads the names that ip(8) knows on this host; the files of /etc come last and win.
func systemTables() tableNames {
	t := tableNames{"default": 253, "main": 254, "local": 255}
	for _, dir := range []string{"/usr/lib/iproute2", "/usr/share/iproute2", "/etc/iproute2"} {
		t.read(filepath.Join(dir, "rt_tables"))
		more, _ := filepath.Glob(filepath.Join(dir, "rt_tables.d", "*.conf")) // the pattern is right
		for _, path := range more {
			t.read(path)
		}
	}
	return t
}

// read adds the lines `number name` of a file. What is missing or makes no sense is passed over, as ip(8) does:
// the name that was looked for is then reported as unknown.
func (t tableNames) read(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		text, _, _ := strings.Cut(s.Text(), "#")
		if fields := strings.Fields(text); len(fields) >= 2 {
			if n, ok := numberOrHex(fields[0], 0xffffffff); ok {
				t[fields[1]] = uint32(n)
			}
		}
	}
}

func (t tableNames) hint(name string) string {
	known := append(slices.Sorted(maps.Keys(t)), "auto", "off")
	if near := nearest.Word(name, known); near != "" {
		return "did you mean " + near + "?"
	}
	return "names of tables are in /etc/iproute2/rt_tables"
}
