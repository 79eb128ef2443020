package netconf

import "errors"

// Undo takes one step back. That what it should remove has gone already is no error.
type Undo func() error

// nothing is the Undo of a step that found everything as it should be.
func nothing() error { return nil }

// Stack holds the way back. The zero Stack is empty and ready. Not safe for concurrent use.
type Stack struct {
	undos []Undo
}

// Push lays u on top. A nil u is ignored.
func (s *Stack) Push(u Undo) {
	if u != nil {
		s.undos = append(s.undos, u)
	}
}

// Undo takes all steps back, the last one first, each one even if others failed, and empties the stack. The error joins
// those of the steps.
func (s *Stack) Undo() error {
	var errs []error
	for len(s.undos) > 0 {
		last := len(s.undos) - 1
		u := s.undos[last]
		s.undos = s.undos[:last] // before the call: an undo that panics must not be run twice
		if err := u(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
