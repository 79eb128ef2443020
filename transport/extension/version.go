package extension

// MaxVersion is the length of the longest version in a hello, in characters. It goes
// to screens and logs, so it has no others than [0-9A-Za-z.+-].
const MaxVersion = 16

// FitVersion makes a program's version fit for a hello: at most [MaxVersion]
// characters of it, a hyphen in place of each that is forbidden, "unknown" if there
// is none.
func FitVersion(s string) string {
	fit := make([]byte, 0, MaxVersion)
	for _, r := range s {
		if len(fit) == MaxVersion {
			break
		}
		if r >= 0x80 || !isVersionCharacter(byte(r)) {
			r = '-'
		}
		fit = append(fit, byte(r))
	}
	if len(fit) == 0 {
		return "unknown"
	}
	return string(fit)
}

func isVersion[V string | []byte](v V) bool {
	if len(v) == 0 || len(v) > MaxVersion {
		return false
	}
	for i := range len(v) {
		if !isVersionCharacter(v[i]) {
			return false
		}
	}
	return true
}

func isVersionCharacter(c byte) bool {
	switch {
	case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z':
		return true
	}
	return c == '.' || c == '+' || c == '-'
}
