package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// The tunnels of others, each as its manual sets it up for two hosts and
// speed: user space, UDP, and the fastest cipher that authenticates.

// fastd carries Ethernet frames; Salsa20/12 with UMAC is the method that its
// manual recommends for speed.
func fastd() *tunnel {
	return &tunnel{name: "fastd", version: firstLine("fastd", "--version"), start: func(ctx context.Context, w *world) error {
		var secret, public [2]string
		for i := range secret {
			out, err := exec.CommandContext(ctx, "fastd", "--generate-key").CombinedOutput()
			if err != nil {
				return fmt.Errorf("fastd --generate-key: %w", err)
			}
			secret[i], public[i] = wordAfter(out, "Secret:"), wordAfter(out, "Public:")
		}
		conf := func(i int, local, inner, remote string) (string, error) {
			return w.file(fmt.Sprintf("fastd-%d.conf", i), fmt.Sprintf("log level warn;\nmode tap;\ninterface \"fd0\";\n"+
				"method \"salsa2012+umac\";\nmtu 1406;\nbind %s:10000;\nsecret \"%s\";\n"+
				"on up \"ip address add %s/24 dev $INTERFACE; ip link set $INTERFACE up\";\npeer \"p\" { key \"%s\"; %s }\n",
				local, secret[i], inner, public[1-i], remote), 0o600)
		}
		a, err := conf(0, outerA, innerA, "remote "+outerB+":10000;")
		if err != nil {
			return err
		}
		b, err := conf(1, outerB, innerB, "")
		if err != nil {
			return err
		}
		return w.startEnds(nil, []string{"fastd", "-c", a}, []string{"fastd", "-c", b})
	}}
}

// openVPN is OpenVPN's user space data channel (no kernel module) with
// ChaCha20-Poly1305 and large socket buffers.
func openVPN() *tunnel { return openVPNOver("OpenVPN", "udp", "udp") }

// openVPNTCP is the same over TCP.
func openVPNTCP() *tunnel { return openVPNOver("OpenVPN TCP", "tcp-client", "tcp-server") }

func openVPNOver(name, protocolA, protocolB string) *tunnel {
	return &tunnel{name: name, version: firstLine("openvpn", "--version"), start: func(ctx context.Context, w *world) error {
		if err := w.certificates(); err != nil {
			return err
		}
		args := func(protocol, role, name, inner, innerPeer, outer, outerPeer string) []string {
			return strings.Fields(fmt.Sprintf("openvpn --dev tun9 --dev-type tun --proto %s --disable-dco --verb 0 --tun-mtu %d "+
				"--data-ciphers CHACHA20-POLY1305 --sndbuf 4194304 --rcvbuf 4194304 --txqueuelen 1000 %s "+
				"--ca %s/ca.crt --cert %s/%s.crt --key %s/%s.key --ifconfig %s %s --local %s --lport 1194 --remote %s 1194",
				protocol, innerMTU, role, w.dir, w.dir, name, w.dir, name, inner, innerPeer, outer, outerPeer))
		}
		return w.startEnds(nil, args(protocolA, "--tls-client", "a", innerA, innerB, outerA, outerB),
			args(protocolB, "--tls-server --dh none", "b", innerB, innerA, outerB, outerA))
	}}
}

// certificates writes ca.crt, and NAME.crt and NAME.key of a and b.
func (w *world) certificates() error {
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	for i, name := range []string{"ca", "a", "b"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true}
		if i == 0 {
			c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
			ca, caKey = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
		if err != nil {
			return err
		}
		keyDER, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		_, err1 := w.file(name+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o600)
		_, err2 := w.file(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})), 0o600)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
	}
	return nil
}

// tinc is tinc 1.0 in router mode, with AES-256-CBC and HMAC-SHA256: it has no
// cipher that authenticates by itself.
func tinc() *tunnel {
	return &tunnel{name: "tinc", version: firstLine("tincd", "--version"), start: func(ctx context.Context, w *world) error {
		outer, inner := []string{outerA, outerB}, []string{innerA, innerB}
		names := []string{"a", "b"}
		var hostFiles, args [2][]string
		for i, name := range names {
			dir := filepath.Join(w.dir, "tinc-"+name)
			conf := fmt.Sprintf("Name = %s\nInterface = tc0\nMode = router\nDeviceType = tun\n", name)
			if i == 0 {
				conf += "ConnectTo = b\n"
			}
			host := fmt.Sprintf("Address = %s\nSubnet = %s/32\nCipher = aes-256-cbc\nDigest = sha256\n", outer[i], inner[i])
			up := fmt.Sprintf("#!/bin/sh\nip address add %s/24 dev tc0\nip link set tc0 mtu %d up\n", inner[i], innerMTU)
			_, err1 := w.file("tinc-"+name+"/tinc.conf", conf, 0o600)
			_, err2 := w.file("tinc-"+name+"/hosts/"+name, host, 0o600)
			_, err3 := w.file("tinc-"+name+"/tinc-up", up, 0o700)
			if err := errors.Join(err1, err2, err3); err != nil {
				return err
			}
			if out, err := exec.CommandContext(ctx, "tincd", "-c", dir, "-K2048").CombinedOutput(); err != nil {
				return fmt.Errorf("tincd -K: %w: %s", err, out)
			}
			hostFiles[i] = []string{filepath.Join(dir, "hosts", name), filepath.Join(w.dir, "tinc-"+names[1-i], "hosts", name)}
			args[i] = []string{"tincd", "-D", "-c", dir, "--pidfile=" + filepath.Join(w.dir, name+".pid")}
		}
		for _, f := range hostFiles { // now with the public key
			if out, err := exec.CommandContext(ctx, "cp", f...).CombinedOutput(); err != nil {
				return fmt.Errorf("cp: %w: %s", err, out)
			}
		}
		return w.startEnds(nil, args[0], args[1])
	}}
}

// firstLine is the first line that a program says, shortened to what names
// its version.
func firstLine(args ...string) string {
	out, _ := exec.Command(args[0], args[1:]...).CombinedOutput()
	line, _, _ := strings.Cut(string(out), "\n")
	return versionIn.FindString(line)
}

var versionIn = regexp.MustCompile(`v?\d[\w.]*`)

func wordAfter(text []byte, label string) string {
	_, after, _ := strings.Cut(string(text), label)
	if f := strings.Fields(after); len(f) > 0 {
		return f[0]
	}
	return ""
}
