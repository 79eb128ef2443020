package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"stunnel/crypto"
)

func genkeyCommand() *cli.Command {
	return &cli.Command{
		Name:  "genkey",
		Usage: "make a new private key",
		Description: "Prints a private key of a new identity, in base64 as wg(8) has it.\n\n" +
			"Example:\n" +
			"   (umask 077; stunnel genkey > private.key)",
		Action: func(c *cli.Context) error {
			warnOfReaders(c.App.ErrWriter)
			_, err := fmt.Fprintln(c.App.Writer, crypto.NewPrivateKey().Base64())
			return err
		},
	}
}

func genpskCommand() *cli.Command {
	return &cli.Command{
		Name:  "genpsk",
		Usage: "make a new preshared key",
		Description: "Prints a preshared key for two peers, in base64 as wg(8) has it.\n\n" +
			"Example:\n" +
			"   (umask 077; stunnel genpsk > laptop.psk)",
		Action: func(c *cli.Context) error {
			warnOfReaders(c.App.ErrWriter)
			_, err := fmt.Fprintln(c.App.Writer, crypto.NewPresharedKey().Base64())
			return err
		},
	}
}

func pubkeyCommand() *cli.Command {
	return &cli.Command{
		Name:  "pubkey",
		Usage: "print the public key of the private key on stdin",
		Description: "Reads a private key from stdin and prints the public key that belongs to it.\n\n" +
			"Example:\n" +
			"   stunnel pubkey < private.key",
		Action: func(c *cli.Context) error {
			const hint = "it reads a private key as genkey prints it: stunnel pubkey < private.key"
			text, err := io.ReadAll(io.LimitReader(c.App.Reader, 4096))
			if err != nil {
				return fmt.Errorf("cannot read the private key from stdin: %w", err)
			}
			text = bytes.TrimSpace(text)
			if len(text) == 0 {
				return withHint(errors.New("stdin is empty"), hint)
			}
			private, err := crypto.ParsePrivateKey(string(text))
			if err != nil {
				return withHint(fmt.Errorf("stdin: %w", err), hint)
			}
			_, err = fmt.Fprintln(c.App.Writer, private.Public().Base64())
			return err
		},
	}
}

// warnOfReaders warns when the secret that is about to be printed goes to a file that others can read.
func warnOfReaders(stderr io.Writer) {
	info, err := os.Stdout.Stat()
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0 {
		warn(stderr, "others can read the file that this secret is written to; set umask 077 before, or chmod it to 600")
	}
}
