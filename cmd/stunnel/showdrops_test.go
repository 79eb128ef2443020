package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// dropReasons are the reasons in the sources: the strings of the table that a file has under a name, as its keys or
// as its values.
func dropReasons(t *testing.T) []string {
	t.Helper()
	var reasons []string
	for _, table := range []struct {
		path string
		of   func(ast.Node) *ast.CompositeLit
	}{
		{"../../transport/drops.go", func(n ast.Node) *ast.CompositeLit {
			if v, ok := n.(*ast.ValueSpec); ok && v.Names[0].Name == "dropNames" {
				return v.Values[0].(*ast.CompositeLit)
			}
			return nil
		}},
		{"../../device/queue.go", func(n ast.Node) *ast.CompositeLit {
			if r, ok := n.(*ast.RangeStmt); ok {
				if l, ok := r.X.(*ast.CompositeLit); ok {
					return l
				}
			}
			return nil
		}},
	} {
		file, err := parser.ParseFile(token.NewFileSet(), table.path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		ast.Inspect(file, func(n ast.Node) bool {
			l := table.of(n)
			if l == nil {
				return true
			}
			ast.Inspect(l, func(n ast.Node) bool {
				if s, ok := n.(*ast.BasicLit); ok && s.Kind == token.STRING {
					reason, err := strconv.Unquote(s.Value)
					if err != nil {
						t.Fatal(err)
					}
					reasons = append(reasons, reason)
					found++
				}
				return true
			})
			return false
		})
		if found < 4 {
			t.Fatalf("%s: %d reasons found: this test looks at the wrong place", table.path, found)
		}
	}
	return reasons
}

func TestEveryReasonOfADropHasItsWords(t *testing.T) {
	reasons := dropReasons(t)
	for _, r := range reasons {
		if words := dropWords[r]; words.what == "" || words.why == "" {
			t.Errorf("%s has no words", r)
		}
	}
	for r := range maps.Keys(dropWords) {
		if !slices.Contains(reasons, r) {
			t.Errorf("%s has words, and nothing is dropped for it", r)
		}
	}
}

func TestTheManualHasEveryReasonInTheWordsOfShow(t *testing.T) {
	rows := make(map[string][]string) // reason -> the cells of its row
	for line := range strings.Lines(readme(t, "../../docs/operations.md")) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if _, name, ok := strings.Cut(cells[0], "<br>`"); ok {
			rows[strings.Trim(name, "` ")] = cells
		}
	}
	for reason, words := range dropWords {
		cells := rows[reason]
		if len(cells) != 3 || len(cells[1]) < 10 || len(cells[2]) < 10 {
			t.Errorf("%s: %q is no row that says what it means and what to do", reason, cells)
		} else if !strings.HasPrefix(strings.TrimSpace(cells[0]), words.what+"s "+words.why) {
			t.Errorf("%s: it is %q, but show says %q", reason, cells[0], words.what+"s "+words.why)
		}
	}
	for reason := range rows {
		if _, known := dropWords[reason]; !known {
			t.Errorf("%s is explained, but unknown", reason)
		}
	}
}
