package main

import (
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// readme is the text of a page of ours.
func readme(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheReadmeListsTheCommandsThatThereAre(t *testing.T) {
	_, section, found := strings.Cut(readme(t, "../../README.md"), "\n## The commands\n")
	if !found {
		t.Fatal("README.md has no section of that name")
	}
	command := regexp.MustCompile("`(?:stunnel )?([a-z]+)")
	var listed []string
	table := false
	for line := range strings.Lines(section) {
		if !strings.HasPrefix(line, "|") {
			if table {
				break
			}
			continue
		}
		table = true
		for _, word := range command.FindAllStringSubmatch(strings.Split(strings.ReplaceAll(line, `\|`, "/"), "|")[1], -1) {
			listed = append(listed, word[1])
		}
	}
	there := commandNames(newApp(io.Discard, io.Discard))
	slices.Sort(listed)
	slices.Sort(there)
	if !slices.Equal(listed, there) {
		t.Errorf("README.md lists\n%v, and stunnel --help\n%v", listed, there)
	}
}
