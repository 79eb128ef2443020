package extension

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"slices"
	"strconv"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/extensions.json anew")

const vectorFile = "testdata/extensions.json"

// vectors is testdata/extensions.json, as docs/protocol-extensions.md describes it.
type vectors struct {
	Messages   []messageVector    `json:"messages"`
	Refused    []refusedVector    `json:"refused"`
	Sealed     []sealedVector     `json:"sealed"`
	Fragmented []fragmentedVector `json:"fragmented"`
}

// messageVector is a plaintext and what it says. Canonical: it is what a sender makes
// of the fields, but for padding.
type messageVector struct {
	Name      string         `json:"name"`
	Is        string         `json:"is"`
	Canonical bool           `json:"canonical"`
	Plaintext hexBytes       `json:"plaintext"`
	Fields    map[string]any `json:"fields"`
}

// refusedVector is a plaintext that is refused, by the word of the page's table.
type refusedVector struct {
	Name      string   `json:"name"`
	Why       string   `json:"why"`
	Plaintext hexBytes `json:"plaintext"`
}

// sealedVector is a whole transport message. Its plaintext has its padding.
type sealedVector struct {
	Name      string   `json:"name,omitempty"`
	Key       hexBytes `json:"key"`
	Receiver  uint32   `json:"receiver"`
	Counter   uint64   `json:"counter,string"`
	Plaintext hexBytes `json:"plaintext"`
	Message   hexBytes `json:"message"`
}

// fragmentedVector is a whole and the messages in which it travels; or a series of
// which the last one is refused.
type fragmentedVector struct {
	Name     string         `json:"name"`
	Why      string         `json:"why,omitempty"`
	Whole    hexBytes       `json:"whole,omitempty"`
	Messages []sealedVector `json:"messages"`
}

// hexBytes is bytes as hex in JSON.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func readVectors(t *testing.T) (v vectors) {
	t.Helper()
	text, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVectorsAreThoseOfTheGenerator(t *testing.T) {
	want, err := json.MarshalIndent(generate(t), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(vectorFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(vectorFile); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what the generator makes now (%v): has the wire format changed?", vectorFile, err)
	}
}

// parse says with this package what a plaintext says, as the vectors have it. why is
// the page's word for what this package refuses.
func parse(plaintext []byte) (is string, fields map[string]any, why string) {
	if len(plaintext) == 0 {
		return "keepalive", map[string]any{}, ""
	}
	if first := plaintext[0]; IsPacket(first) {
		return "packet", map[string]any{"partial": IsPartial(first)}, ""
	}
	kind, flags, body, ok := Split(plaintext)
	switch {
	case !ok && plaintext[0]>>4 != 0:
		return "", nil, "first byte"
	case !ok && len(plaintext) < HeaderSize:
		return "", nil, "header"
	case !ok:
		return "", nil, "length"
	case kind == KindControl:
		return parseBody(flags, body)
	case kind == KindFrame:
		return "frame", map[string]any{"partial": flags&PartialFrame != 0, "frame": hex.EncodeToString(body)}, ""
	case kind == KindFragment:
		index, last, ok := flags.Fragment()
		if !ok {
			return "", nil, "index"
		}
		return "fragment", map[string]any{"index": float64(index), "last": last, "part": hex.EncodeToString(body)}, ""
	}
	return "", nil, "kind"
}

// parseBody is parse for control messages; all that it refuses is refused because of
// "control".
func parseBody(flags Flags, body []byte) (is string, fields map[string]any, why string) {
	typ, ok := TypeOf(body)
	if !ok {
		return "", nil, "control"
	}
	switch typ {
	case TypeHello:
		var h Hello
		h, ok = ParseHello(flags, body)
		fields = map[string]any{
			"wanted": h.Wanted, "mode": h.Mode.String(), "capabilities": hex.EncodeToString(binary.BigEndian.AppendUint32(nil, uint32(h.Capabilities))),
			"instance": digits(h.Instance), "sequence": float64(h.Sequence),
			"seen_instance": digits(h.SeenInstance), "seen_sequence": float64(h.SeenSequence), "version": h.Version,
		}
	case TypeEcho:
		var token Token
		token, ok = ParseEcho(body)
		fields = map[string]any{"token": digits(token)}
	case TypeEchoReply:
		var token Token
		token, ok = ParseEchoReply(body)
		fields = map[string]any{"token": digits(token)}
	case TypeProbe, TypeProbeReply:
		var p Probe
		if p, ok = ParseProbe(body); typ == TypeProbeReply {
			p, ok = ParseProbeReply(body)
		}
		fields = map[string]any{"token": digits(p.Token), "size": float64(p.Size), "full": p.Full}
	case TypeGoodbye:
		var reason Reason
		var instance Instance
		reason, instance, ok = ParseGoodbye(body)
		fields = map[string]any{"reason": float64(reason), "instance": digits(instance)}
	default:
		ok = false
	}
	if !ok {
		return "", nil, "control"
	}
	return typ.String(), fields, ""
}

func digits[N ~uint64](n N) string {
	return hex.EncodeToString(binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// say makes with this package the plaintext of what parse has understood.
func say(is string, fields map[string]any) []byte {
	text := func(name string) string { s, _ := fields[name].(string); return s }
	number := func(name string) uint64 {
		if n, ok := fields[name].(float64); ok {
			return uint64(n)
		}
		n, err := strconv.ParseUint(text(name), 16, 64)
		if err != nil {
			panic(err)
		}
		return n
	}
	set := func(name string) bool { b, _ := fields[name].(bool); return b }
	body, _ := hex.DecodeString(text("part") + text("frame") + text("packet") + text("begun"))
	switch is {
	case "hello":
		h := Hello{
			Wanted: set("wanted"), Capabilities: Capabilities(number("capabilities")),
			Instance: Instance(number("instance")), Sequence: Sequence(number("sequence")),
			SeenInstance: Instance(number("seen_instance")), SeenSequence: Sequence(number("seen_sequence")), Version: text("version"),
		}
		if text("mode") == "tap" {
			h.Mode = ModeTAP
		}
		return h.Append(nil)
	case "echo":
		return AppendEcho(nil, Token(number("token")))
	case "echo reply":
		return AppendEchoReply(nil, Token(number("token")))
	case "probe":
		return AppendProbe(nil, Probe{Token(number("token")), int(number("size")), set("full")})
	case "probe reply":
		return AppendProbeReply(nil, Probe{Token(number("token")), int(number("size")), set("full")})
	case "goodbye":
		return AppendGoodbye(nil, Reason(number("reason")), Instance(number("instance")))
	case "fragment":
		return append(AppendHeader(nil, KindFragment, FragmentFlags(int(number("index")), set("last")), len(body)), body...)
	case "frame":
		var flags Flags
		if set("partial") {
			flags = PartialFrame
		}
		return append(AppendHeader(nil, KindFrame, flags, len(body)), body...)
	case "packet":
		if set("partial") {
			body[0] |= PartialBit
		}
	}
	return body
}

func TestVectorsAreParsedAndMadeAgain(t *testing.T) {
	made := map[string]int{}
	for _, v := range readVectors(t).Messages {
		is, fields, why := parse(v.Plaintext)
		if why != "" || is != v.Is {
			t.Errorf("%s: it is %q, refused because of %q", v.Name, is, why)
			continue
		}
		switch {
		case is == "packet" || is == "frame" && v.Fields["partial"] == true:
			// What is inside these is not this package's.
			if fields["partial"] != v.Fields["partial"] {
				t.Errorf("%s: partial is %v", v.Name, fields["partial"])
			}
		case !reflect.DeepEqual(fields, v.Fields):
			t.Errorf("%s:\n got %v\nwant %v", v.Name, fields, v.Fields)
		}
		if !v.Canonical {
			continue
		}
		made[is]++
		said := say(is, v.Fields)
		if begin, padding := v.Plaintext[:min(len(said), len(v.Plaintext))], v.Plaintext[min(len(said), len(v.Plaintext)):]; v.Fields["partial"] == true {
			// The sender's checksum field means nothing and is not among the fields.
			if len(begin) != len(said) || begin[0] != said[0] {
				t.Errorf("%s: it is made as %x", v.Name, said)
			}
		} else if !bytes.Equal(begin, said) || len(padding) > 15 || len(bytes.Trim(padding, "\x00")) > 0 {
			t.Errorf("%s: it is made as %x", v.Name, said)
		}
	}
	for _, is := range []string{"keepalive", "hello", "echo", "echo reply", "goodbye", "probe", "probe reply", "fragment", "frame", "packet"} {
		if made[is] == 0 {
			t.Errorf("there is no canonical %s", is)
		}
	}
}

func TestWhatVectorsSayIsRefusedIsRefused(t *testing.T) {
	// What packets and frames have inside is not this package's to refuse, nor that a
	// part is empty.
	others := []string{"frame", "packet", "part"}
	ours := 0
	for _, v := range readVectors(t).Refused {
		want := v.Why
		switch {
		case slices.Contains(others, want):
			want = ""
		case v.Plaintext[0] == byte(KindControl) && want != "header" && want != "length":
			want = "control"
		}
		if want != "" {
			ours++
		}
		if _, _, why := parse(v.Plaintext); why != want {
			t.Errorf("%s: refused because of %q, want %q", v.Name, why, want)
		}
	}
	if ours < 40 {
		t.Errorf("only %d vectors are for this package", ours)
	}
}
