package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"stunnel/cmd/internal/conf/nearest"
)

// adopt makes a command of ours behave like the others: no `help` subcommand that would swallow an argument of that
// name, and wrong values of flags are wrong usage.
func adopt(c *cli.Command) {
	c.HideHelpCommand = true
	if c.OnUsageError == nil {
		c.OnUsageError = func(_ *cli.Context, err error, _ bool) error {
			return withHint(usageError("%s: %w", c.Name, err), helpHint(c))
		}
	}
}

// arrange checks args (args[0] is the program) against the commands and flags of app and puts the flags of the
// command in front of its arguments, where urfave/cli wants them. Whatever is wrong with the usage, but for the
// values of flags, is found here: unknown commands and flags, flags without their value, and arguments missing or
// surplus by the command's ArgsUsage.
func arrange(app *cli.App, args []string) ([]string, error) {
	program, rest := args[0], args[1:]
	if len(rest) == 0 {
		return nil, withHint(usageError("no command given"), "stunnel --help lists the commands")
	}
	switch first := rest[0]; first {
	case "-h", "-help", "--help":
		return []string{program, "--help"}, nil
	case "-v", "-version", "--version":
		rest = append([]string{"version"}, rest[1:]...)
	case "help":
		if len(rest) == 1 || rest[1] == "--help" || rest[1] == "-h" {
			return []string{program, "--help"}, nil
		}
		rest = []string{rest[1], "--help"}
	case "-V":
		return nil, withHint(usageError("unknown flag -V before the command"), "did you mean --version?")
	default:
		if strings.HasPrefix(first, "-") {
			return nil, withHint(usageError("unknown flag %s before the command", first), "stunnel --help lists the commands; a command's flags come behind its name")
		}
	}
	c := app.Command(rest[0])
	if c == nil {
		return nil, unknown("command", rest[0], "", append(commandNames(app), "help"), "stunnel --help lists the commands")
	}
	flags, arguments, err := split(c, rest[1:])
	if err != nil {
		return nil, err
	}
	arranged := append([]string{program, c.Name}, flags...)
	if len(flags) == 1 && flags[0] == "--help" {
		return arranged, nil
	}
	if err := checkCount(c, arguments); err != nil {
		return nil, err
	}
	return append(append(arranged, "--"), arguments...), nil
}

// split tells flags from arguments. Flags come out one word each (--name or --name=value); a request for help wins
// over everything else.
func split(c *cli.Command, words []string) (flags, arguments []string, err error) {
	known := flagsOf(c)
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		if word == "--" {
			arguments = append(arguments, words...)
			break
		}
		if word == "-" || !strings.HasPrefix(word, "-") {
			arguments = append(arguments, word)
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-"), "=")
		if name == "h" && !hasValue && !known["h"].exists || name == "help" {
			return []string{"--help"}, nil, nil
		}
		if !known[name].exists && !strings.HasPrefix(word, "--") && len(name) > 1 {
			if letters, ok := splitLetters(known, word[1:]); ok {
				words = append(letters, words...)
				continue
			}
		}
		f := known[name]
		switch {
		case !f.exists:
			return nil, nil, unknown("flag", word, c.Name, flagNames(known), helpHint(c))
		case hasValue && !f.takesValue && !isBool(value):
			return nil, nil, withHint(usageError("%s: flag --%s takes no value, but got %s", c.Name, name, quoted(value)), helpHint(c))
		case hasValue:
			flags = append(flags, "--"+name+"="+value)
		case !f.takesValue:
			flags = append(flags, "--"+name)
		case len(words) == 0:
			return nil, nil, withHint(usageError("%s: flag %s needs a value", c.Name, word), helpHint(c))
		default:
			flags = append(flags, "--"+name+"="+words[0])
			words = words[1:]
		}
	}
	return flags, arguments, nil
}

func isBool(text string) bool {
	_, err := strconv.ParseBool(text)
	return err == nil
}

// splitLetters takes combined one-letter flags apart, -fx into -f -x. The last one may bring its value, -n5.
func splitLetters(known map[string]flagKind, letters string) (words []string, ok bool) {
	for i := range len(letters) {
		f := known[letters[i:i+1]]
		switch {
		case !f.exists:
			return nil, false
		case f.takesValue && i+1 < len(letters):
			return append(words, "-"+letters[i:i+1]+"="+strings.TrimPrefix(letters[i+1:], "=")), true
		}
		words = append(words, "-"+letters[i:i+1])
	}
	return words, true
}

// checkCount holds the arguments against ArgsUsage: each word is one argument, [WORD] may be missing, "A|B" and
// "A or B" are one, and "..." takes any number.
func checkCount(c *cli.Command, arguments []string) error {
	least, most := 0, 0
	shape := strings.ReplaceAll(c.ArgsUsage, " or ", "|")
	for _, word := range strings.Fields(shape) {
		if strings.HasSuffix(strings.TrimRight(word, "]"), "...") {
			most = 1 << 30
			if word == "..." {
				continue
			}
		}
		most++
		if !strings.HasPrefix(word, "[") {
			least++
		}
	}
	switch {
	case len(arguments) > most && most == 0:
		return withHint(usageError("%s takes no argument, but got %s", c.Name, quoted(arguments[0])), helpHint(c))
	case len(arguments) > most:
		return withHint(usageError("%s takes %s, and %s is one too many", c.Name, c.ArgsUsage, quoted(arguments[most])), helpHint(c))
	case len(arguments) < least:
		return withHint(usageError("%s needs %s", c.Name, c.ArgsUsage), helpHint(c))
	}
	for _, a := range arguments {
		if a == "" {
			return withHint(usageError("%s got an empty argument", c.Name), helpHint(c))
		}
	}
	return nil
}

// quoted shows an argument, but not one that may be a key.
func quoted(argument string) string {
	if len(argument) >= 40 && !strings.Contains(argument, "/") || len(argument) == 44 {
		return fmt.Sprintf("one of %d characters", len(argument))
	}
	return strconv.Quote(argument)
}

type flagKind struct{ exists, takesValue bool }

func flagsOf(c *cli.Command) map[string]flagKind {
	known := make(map[string]flagKind)
	for _, f := range c.Flags {
		d, ok := f.(cli.DocGenerationFlag)
		for _, name := range f.Names() {
			known[name] = flagKind{exists: true, takesValue: ok && d.TakesValue()}
		}
	}
	return known
}

func flagNames(known map[string]flagKind) []string {
	names := []string{"--help"}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if len(name) > 1 {
			names = append(names, "--"+name)
		}
	}
	return names
}

func commandNames(app *cli.App) []string {
	var names []string
	for _, c := range app.Commands {
		names = append(names, c.Name)
	}
	return names
}

// elsewhereCalled are the words of other programs for what our commands do.
var elsewhereCalled = map[string]string{
	"status": "show", "list": "show", "ls": "show", "info": "show", "showconf": "show",
	"start": "up", "connect": "up", "run": "up", "stop": "down", "disconnect": "down", "kill": "down",
	"unblock": "unlock", "release": "unlock", "killswitch": "unlock", "kill-switch": "unlock",
	"reload": "strip", "syncconf": "strip", "setconf": "strip",
	"test": "check", "validate": "check", "verify": "check", "keygen": "genkey", "v": "version",
}

// unknown says that word is no command or no flag (of the command `of`), and which one it may have been meant to be.
func unknown(kind, word, of string, known []string, otherwise string) error {
	hint := otherwise
	written, _, _ := strings.Cut(word, "=")
	if ours, ok := elsewhereCalled[strings.ToLower(written)]; ok && slices.Contains(known, ours) {
		hint = fmt.Sprintf("did you mean %s?", ours)
	} else if near := nearest.Word(written, known); near != "" {
		hint = fmt.Sprintf("did you mean %s?", near)
	}
	if of != "" {
		of += ": "
	}
	if written == "" {
		written = `""`
	}
	return withHint(usageError("%sunknown %s %s", of, kind, written), hint)
}

func helpHint(c *cli.Command) string {
	return fmt.Sprintf("stunnel %s --help shows how it is used", c.Name)
}
