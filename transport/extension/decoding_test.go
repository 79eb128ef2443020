package extension_test

import (
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"reflect"
	"regexp"
	"slices"
	"testing"

	"stunnel/crypto"
	"stunnel/transport/extension"
)

// hexText is bytes in JSON as hexadecimal digits.
type hexText string

func (h *hexText) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	*h = hexText(b)
	return err
}

type sealed struct {
	Name      string
	Key       hexText
	Receiver  uint32
	Counter   uint64 `json:",string"`
	Plaintext hexText
	Message   hexText
}

type recorded struct {
	Messages []struct {
		Name, Is  string
		Plaintext hexText
		Fields    map[string]any
	}
	Refused []struct {
		Name, Why string
		Plaintext hexText
	}
	Sealed     []sealed
	Fragmented []struct {
		Name, Why string
		Whole     hexText
		Messages  []sealed
	}
}

func readRecorded(t *testing.T) (r recorded) {
	t.Helper()
	text, err := os.ReadFile("testdata/extensions.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Messages) == 0 || len(r.Refused) == 0 || len(r.Sealed) == 0 || len(r.Fragmented) == 0 {
		t.Fatal("a kind of vectors is missing")
	}
	return r
}

func TestTheOtherDecoderUnderstandsAllVectors(t *testing.T) {
	for _, v := range readRecorded(t).Messages {
		m, fragment, why := new(decoder).decode(1000, string(v.Plaintext))
		if fragment != nil {
			m = message{"fragment", fragment}
		}
		if why != "" || m.is != v.Is || !reflect.DeepEqual(m.fields, v.Fields) {
			t.Errorf("%s: %q, refused because of %q:\n got %v\nwant %v", v.Name, m.is, why, m.fields, v.Fields)
		}
	}
}

func TestTheOtherDecoderRefusesForTheSameReason(t *testing.T) {
	for _, v := range readRecorded(t).Refused {
		if m, _, why := new(decoder).decode(1000, string(v.Plaintext)); string(why) != v.Why {
			t.Errorf("%s: %q, refused because of %q, want %q", v.Name, m.is, why, v.Why)
		}
	}
}

func TestTheOtherDecoderOpensSealedVectors(t *testing.T) {
	r := readRecorded(t)
	for _, v := range r.Fragmented {
		r.Sealed = append(r.Sealed, v.Messages...)
	}
	for _, v := range r.Sealed {
		msg := []byte(v.Message)
		if typ, ok := crypto.Type(msg); !ok || typ != crypto.TypeTransport || crypto.Receiver(msg) != crypto.Index(v.Receiver) || crypto.MessageCounter(msg) != crypto.Counter(v.Counter) {
			t.Errorf("%s: %v to %#x with counter %d", v.Name, typ, crypto.Receiver(msg), crypto.MessageCounter(msg))
		}
		d := decoder{key: []byte(v.Key)}
		if counter, plaintext := d.open(string(v.Message)); counter != v.Counter || plaintext != string(v.Plaintext) {
			t.Errorf("%s: counter %d, plaintext %x", v.Name, counter, plaintext)
		}
	}
}

func TestTheOtherDecoderPutsFragmentsTogetherInAnyOrder(t *testing.T) {
	order := rand.New(rand.NewPCG(1, 2))
	wholes := 0
	for _, v := range readRecorded(t).Fragmented {
		if v.Why != "" {
			continue
		}
		wholes++
		want := read(string(v.Whole))
		for range 20 {
			d := decoder{key: []byte(v.Messages[0].Key)}
			for n, i := range order.Perm(len(v.Messages)) {
				m, _, why := d.decode(d.open(string(v.Messages[i].Message)))
				if n < len(v.Messages)-1 {
					want := message{}
					if why != "" || !reflect.DeepEqual(m, want) {
						t.Fatalf("%s: %q came out of %d parts of %d, refused because of %q", v.Name, m.is, n+1, len(v.Messages), why)
					}
				} else if why != "" || !reflect.DeepEqual(m, want) {
					t.Fatalf("%s: refused because of %q:\n got %v\nwant %v", v.Name, why, m, want)
				}
			}
			if len(d.wholes) != 0 {
				t.Fatalf("%s: something is left", v.Name)
			}
		}
	}
	if wholes < 4 {
		t.Errorf("%d wholes", wholes)
	}
}

func TestTheOtherDecoderRefusesTheLastOfASeriesThatContradictsItself(t *testing.T) {
	for _, v := range readRecorded(t).Fragmented {
		d := decoder{key: []byte(v.Messages[0].Key)}
		for i, sealed := range v.Messages {
			want := ""
			if i == len(v.Messages)-1 {
				want = v.Why
			}
			if _, _, why := d.decode(d.open(string(sealed.Message))); string(why) != want {
				t.Errorf("%s, part %d: refused because of %q, want %q", v.Name, i, why, want)
			}
		}
	}
}

func TestEveryReasonOfThePageHasAVector(t *testing.T) {
	page, err := os.ReadFile("../../docs/protocol-extensions.md")
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile(`(?s)\n\| word \| what \| refused is \|\n.*?\n\n`).Find(page)
	var words []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z ]+)` \\|").FindAllSubmatch(table, -1) {
		words = append(words, string(row[1]))
	}
	if len(words) < 10 {
		t.Fatalf("the page's table has the words %q", words)
	}
	var used []string
	r := readRecorded(t)
	for _, v := range r.Refused {
		used = append(used, v.Why)
	}
	for _, v := range r.Fragmented {
		if v.Why != "" {
			used = append(used, v.Why)
		}
	}
	slices.Sort(used)
	slices.Sort(words)
	if used = slices.Compact(used); !slices.Equal(used, words) {
		t.Errorf("the vectors have the words\n%q, the page has\n%q", used, words)
	}
}

// Both say the same of any plaintext, as far as the package looks into it.
func FuzzBothDecodersAgree(f *testing.F) {
	text, err := os.ReadFile("testdata/extensions.json")
	if err != nil {
		f.Fatal(err)
	}
	var r recorded
	if err := json.Unmarshal(text, &r); err != nil {
		f.Fatal(err)
	}
	for _, v := range r.Messages {
		f.Add([]byte(v.Plaintext))
	}
	for _, v := range r.Refused {
		f.Add([]byte(v.Plaintext))
	}
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		is, fields, why := extension.ParseVector(plaintext)
		m, fragment, other := new(decoder).decode(1000, string(plaintext))
		if fragment != nil {
			m, other = message{"fragment", fragment}, ""
		}
		switch {
		case slices.Contains([]refused{"packet", "frame", "part"}, other) && why == "":
			return // what is inside is not looked at
		case why == "control" && other != "":
			return
		case string(other) != why:
			t.Fatalf("%x is refused because of %q and %q", plaintext, why, other)
		case why != "":
			return
		case m.is != is:
			t.Fatalf("%x is %q and %q", plaintext, is, m.is)
		}
		if m.fields["partial"] == true || is == "packet" {
			if m.fields["partial"] != fields["partial"] {
				t.Fatalf("%x is partial: %v and %v", plaintext, fields["partial"], m.fields["partial"])
			}
			return
		}
		if !reflect.DeepEqual(m.fields, fields) {
			t.Fatalf("%x is\n%v and\n%v", plaintext, fields, m.fields)
		}
	})
}
