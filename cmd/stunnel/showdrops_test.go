package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
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
