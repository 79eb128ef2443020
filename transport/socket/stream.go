package socket

// Stream is one TCP connection that carries messages, each behind its length in two bytes, big endian. It belongs to one
// who calls Receive; all else any number may call at a time. It is a pointer, so that a Path that names it is comparable.
type Stream interface {
	// First waits for the first message of a connection that came from outside, of at most FirstSize bytes, and reads
	// nothing behind it. It is valid until the next call of Receive.
	First() (Datagram, error)
	// Admit says that the first message was good: the connection no longer counts among those that have proved nothing, and
	// Receive may be called. One that was dialled is admitted from the beginning.
	Admit()
	// Receive waits for messages and returns all that are there, with Path.Stream set, valid until the next Receive. While
	// it waits and no message has begun it holds no buffer. After Close the error is net.ErrClosed; io.EOF when the
	// other end has closed; others end the connection too.
	Receive() ([]Datagram, error)
	// Send sends train as messages of size bytes, the last may be shorter, in order. What does not fit into the
	// connection's small backlog in good time is dropped, whole messages of it, and ErrStalled returned; but for a short
	// message that is alone, which is kept.
	Send(train []byte, size int) error
	// Try is Send that does not wait: what does not fit at once is dropped.
	Try(train []byte, size int) error
	// Offer sends one message if that can be done at once; false: it was not sent.
	Offer(message []byte) bool
	// SetMark changes SO_MARK of what is sent from now on.
	SetMark(mark uint32) error
	// Path is how the connection goes; its Stream is this.
	Path() Path
	// Close ends the connection at once. Any caller, also more than once.
	Close() error
}

// FirstSize is the most bytes that the first message of a connection may have.
const FirstSize = 2048
