package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"stunnel/cmd/internal/conf"
	"stunnel/crypto"
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

// ourCommand is a command line of ours in a page: behind four blanks, or between backticks.
var ourCommand = regexp.MustCompile("(?m)(?:^    (?:[^#\n]*[ (])?|`(?:sudo )?)(stunnel [a-z][^`|;&>#)\n]*)")

func TestTheCommandLinesOfThePagesAreRight(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	app := newApp(io.Discard, io.Discard)
	for _, c := range app.Commands {
		adopt(c)
	}
	found := 0
	for _, page := range append(pages, "../../README.md", "../../SECURITY.md") {
		text := regexp.MustCompile(`(?m)^\|.*$`).ReplaceAllString(readme(t, page), "") // a table of commands has their usage
		for _, m := range ourCommand.FindAllStringSubmatch(text, -1) {
			found++
			words := strings.Fields(m[1])
			if len(words) == 2 && app.Command(words[1]) != nil {
				continue // it is spoken of, not typed
			}
			if _, err := arrange(app, words); err != nil {
				t.Errorf("%s: %s: %v", filepath.Base(page), m[1], err)
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d command lines were found", found)
	}
}

// The files of a page, with keys in the place of the words for them, are files that up takes.
func TestTheFilesOfTheEthernetPageAreRight(t *testing.T) {
	keys := make(map[string]crypto.PrivateKey)
	keyOf := func(owner string) crypto.PrivateKey {
		if _, known := keys[owner]; !known {
			keys[owner] = crypto.NewPrivateKey()
		}
		return keys[owner]
	}
	word := regexp.MustCompile(`\(([^()]*)'s (private|public) key\)`)
	files := regexp.MustCompile(`(?m)^    \[Interface\]\n(?:(?:    .*)?\n)*?    \[Peer\]\n(?:    .+\n)+`).FindAllString(readme(t, "../../docs/ethernet.md"), -1)
	if len(files) != 3 {
		t.Fatalf("%d files were found, want that of a host and those of two sites: %q", len(files), files)
	}
	for _, text := range files {
		text = word.ReplaceAllStringFunc(text, func(w string) string {
			if m := word.FindStringSubmatch(w); m[2] == "public" {
				return keyOf(m[1]).Public().String()
			}
			return keyOf(word.FindStringSubmatch(w)[1]).Base64()
		})
		f, err := conf.Parse("lan.conf", []byte(strings.ReplaceAll(text, "\n    ", "\n")))
		if err != nil {
			t.Errorf("%s\n%v", text, err)
			continue
		}
		if !f.Interface.Ethernet || len(f.Peers) != 1 || len(f.Warnings) > 0 {
			t.Errorf("%s\nis read as %+v", text, f)
		}
	}
}
