package extension

// MaxFragments is the largest number of parts into which a plaintext may be cut.
const MaxFragments = 8

// MaxWhole is the length in bytes of the longest plaintext that fragments may make
// together.
const MaxWhole = 1<<16 - 1

// FragmentFlags returns the flags of part number index, from 0, of a whole. The
// first part is never the last one: who has a single part sends it as it is.
func FragmentFlags(index int, last bool) Flags {
	if uint(index) >= MaxFragments || index == 0 && last {
		panic("extension: no such fragment")
	}
	f := Flags(index) << 1
	if last {
		f |= 1
	}
	return f
}

// Fragment reads the flags of a fragment. ok is false for an index beyond the last
// one possible and for a first part that says to be the last one too. Beside it a
// receiver refuses an empty body, see docs/protocol-extensions.md.
func (f Flags) Fragment() (index int, last, ok bool) {
	index, last = int(f>>1), f&1 != 0
	if index >= MaxFragments || index == 0 && last {
		return 0, false, false
	}
	return index, last, true
}
