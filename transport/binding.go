package transport

import "context"

// binding is the set of sockets in use, one per lane, or none while the tunnel
// is down. Another one takes its place when the port changes.
type binding struct {
	sockets  []Socket
	replaced chan struct{} // closed when this is no longer the binding
}

func newBinding(sockets []Socket) *binding {
	return &binding{sockets, make(chan struct{})}
}

// bind opens sockets on port and puts them in the place of those in use, which
// stay if that fails. mu is held.
func (t *Tunnel) bind(port uint16) error {
	sockets, err := t.listen(port, len(t.lanes), t.mark.Load())
	if err != nil {
		return err
	}
	t.rebind(sockets)
	return nil
}

// rebind puts sockets, nil for none, in the place of those in use. mu is held.
func (t *Tunnel) rebind(sockets []Socket) {
	old := t.binding.Swap(newBinding(sockets))
	close(old.replaced)
	for _, s := range old.sockets {
		s.Close()
	}
}

// controlSocket is for what is sent beside the lanes; nil while down.
func (t *Tunnel) controlSocket() Socket {
	return t.lanes[0].socket()
}

// socket is the lane's; nil while the tunnel is down.
func (l *lane) socket() Socket {
	if b := l.tunnel.binding.Load(); b.sockets != nil {
		return b.sockets[l.number]
	}
	return nil
}

// runSockets receives from whichever socket is the lane's.
func (l *lane) runSockets(ctx context.Context) error {
	for {
		b := l.tunnel.binding.Load()
		if b.sockets != nil {
			if err := l.in.runInbound(b.sockets[l.number]); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.replaced:
		}
	}
}
